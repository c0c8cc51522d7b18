// vmeg_edge._native: a table of contents.
#include <pybind11/pybind11.h>

#include "register.hpp"

PYBIND11_MODULE(_native, module, pybind11::mod_gil_not_used()) {
    module.doc() = "The native kernels. Use vmeg_edge.kernels, which checks arguments and chooses.";
    vmeg::register_cpu(module);
    vmeg::register_resize(module);
    vmeg::register_eigencam(module);
    vmeg::register_project(module);
}

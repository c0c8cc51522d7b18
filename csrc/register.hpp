// What module.cpp lists: one function a file, each adds its names to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace vmeg {

void register_cpu(pybind11::module_& module);
void register_eigencam(pybind11::module_& module);
void register_project(pybind11::module_& module);
void register_resize(pybind11::module_& module);

}  // namespace vmeg

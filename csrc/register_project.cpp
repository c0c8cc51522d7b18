// project(): tokens on axes.
#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace vmeg {
namespace {

using PackedFloats = py::array_t<float, py::array::c_style>;

double run(const PackedFloats& activations, const PackedFloats& axes, PackedFloats& out, const std::string& isa) {
    if (activations.ndim() != 2 || axes.ndim() != 2 || out.ndim() != 2) {
        throw std::invalid_argument("activations, axes and out must have two dimensions");
    }
    if (axes.shape(1) != activations.shape(1) || out.shape(0) != activations.shape(0) ||
        out.shape(1) != axes.shape(0)) {
        throw std::invalid_argument("axes must be [count, channels] and out [positions, count]");
    }
    const KernelSet& kernels = kernel_set(isa);
    float* out_data = out.mutable_data();
    const py::gil_scoped_release release;
    return kernels.project->project(activations.data(), static_cast<std::size_t>(activations.shape(0)),
                                    static_cast<std::size_t>(activations.shape(1)), axes.data(),
                                    static_cast<std::size_t>(axes.shape(0)), out_data);
}

}  // namespace

void register_project(py::module_& module) {
    module.def("project", &run, py::arg("activations").noconvert(), py::arg("axes").noconvert(),
               py::arg("out").noconvert(), py::arg("isa"),
               "Fills out [positions, count] with the products of activations [positions, channels] and axes [count, "
               "channels], all float32 and contiguous; returns the sum of the activations' squares.");
}

}  // namespace vmeg

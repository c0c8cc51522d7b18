// eigencam(): a map and its vector.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "eigencam.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace vmeg {
namespace {

using Floats = py::array_t<float, 0>;
using PackedFloats = py::array_t<float, py::array::c_style>;

py::object run(const Floats& activations, const std::optional<PackedFloats>& direction, const std::string& isa) {
    if (activations.ndim() != 2 || activations.shape(0) < 1 || activations.shape(1) < 1) {
        throw std::invalid_argument("activations must be [positions, channels] with at least one of each");
    }
    if (direction && (direction->ndim() != 1 || direction->shape(0) != activations.shape(1))) {
        throw std::invalid_argument("direction must be [channels]");
    }
    const KernelSet& kernels = kernel_set(isa);
    const ActivationsView view{reinterpret_cast<const char*>(activations.data()),
                               static_cast<std::size_t>(activations.shape(0)),
                               static_cast<std::size_t>(activations.shape(1)), activations.strides(0),
                               activations.strides(1)};
    PackedFloats map(activations.shape(0));
    PackedFloats vector(activations.shape(1));
    const float* orientation = direction ? direction->data() : nullptr;
    float* map_data = map.mutable_data();
    float* vector_data = vector.mutable_data();
    CamStatus status = CamStatus::ok;
    {
        const py::gil_scoped_release release;
        status = eigencam(view, orientation, *kernels.eigencam, map_data, vector_data);
    }
    if (status == CamStatus::not_finite) return py::none();
    return py::make_tuple(std::move(map), std::move(vector));
}

}  // namespace

void register_eigencam(py::module_& module) {
    module.def("eigencam", &run, py::arg("activations").noconvert(), py::arg("direction").noconvert().none(true),
               py::arg("isa"),
               "Map [positions] and signed unit vector [channels] of float32 activations [positions, channels] of any "
               "strides; None where they are not finite.");
}

}  // namespace vmeg

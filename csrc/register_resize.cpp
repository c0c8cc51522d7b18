// Resizer: a geometry, and run() over frames of it.
#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "register.hpp"
#include "resize.hpp"

namespace py = pybind11;

namespace vmeg {
namespace {

using Bytes = py::array_t<std::uint8_t, 0>;

constexpr int kLargestSide = 1 << 24;  // coefficients and byte offsets stay within 32 bits

Method method_named(const std::string& name) {
    if (name == "nearest") return Method::nearest;
    if (name == "bilinear") return Method::bilinear;
    if (name == "bicubic") return Method::bicubic;
    throw std::invalid_argument("method must be nearest, bilinear or bicubic");
}

void require_side(int size) {
    if (size < 1 || size > kLargestSide) throw std::invalid_argument("sizes must be 1 to 16777216");
}

class PyResizer {
public:
    PyResizer(int in_width, int in_height, int channels, int out_width, int out_height, const std::string& method,
              const std::string& isa)
        : in_width_(in_width),
          in_height_(in_height),
          channels_(channels),
          out_width_(out_width),
          out_height_(out_height),
          resizer_(checked(in_width, in_height, channels, out_width, out_height, method, isa)) {}

    void run(const Bytes& frame, int x, int y, Bytes out) const {
        const bool grey = frame.ndim() == 2;
        if (!(grey && channels_ == 1) && !(frame.ndim() == 3 && channels_ == 3 && frame.shape(2) == 3)) {
            throw std::invalid_argument("frame must be [H, W] or [H, W, 3], as the resizer was made for");
        }
        if (x < 0 || y < 0 || x > frame.shape(1) - in_width_ || y > frame.shape(0) - in_height_) {
            throw std::invalid_argument("the region reaches beyond the frame");
        }
        const bool shaped = out.ndim() == 3 && out.shape(0) == out_height_ && out.shape(1) == out_width_ &&
                            out.shape(2) == 3;
        if (!shaped || (out.flags() & py::array::c_style) == 0) {
            throw std::invalid_argument("out must be contiguous [height, width, 3]");
        }
        const FrameView view{frame.data() + y * frame.strides(0) + x * frame.strides(1), frame.strides(0),
                             frame.strides(1), grey ? 0 : frame.strides(2)};
        std::uint8_t* target = out.mutable_data();  // throws where it is read-only
        const py::gil_scoped_release release;
        resizer_.run(view, target);
    }

private:
    static Resizer checked(int in_width, int in_height, int channels, int out_width, int out_height,
                           const std::string& method, const std::string& isa) {
        for (const int side : {in_width, in_height, out_width, out_height}) require_side(side);
        if (channels != 1 && channels != 3) throw std::invalid_argument("channels must be 1 or 3");
        return {in_width, in_height, channels, out_width, out_height, method_named(method), *kernel_set(isa).resize};
    }

    int in_width_, in_height_, channels_, out_width_, out_height_;
    Resizer resizer_;
};

}  // namespace

void register_resize(py::module_& module) {
    // A plain type as the metaclass: nothing derives from this class, and type checkers know no other.
    py::class_<PyResizer>(module, "Resizer", py::is_final(),
                          py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)),
                          "Crop and resize for one geometry. Immutable; threads may share one.")
        .def(py::init<int, int, int, int, int, const std::string&, const std::string&>(), py::arg("in_width"),
             py::arg("in_height"), py::arg("channels"), py::arg("out_width"), py::arg("out_height"),
             py::arg("method"), py::arg("isa"))
        .def("run", &PyResizer::run, py::arg("frame").noconvert(), py::arg("x"), py::arg("y"),
             py::arg("out").noconvert(),
             "Resize the region whose top left corner is (x, y) of a uint8 frame of any strides into out.");
}

}  // namespace vmeg

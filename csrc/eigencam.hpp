// Eigen-CAM (Muhammad and Yeasin 2020, arXiv 2008.00299) without a singular value decomposition.
//
// The first right singular vector of the centred activations is the leading eigenvector of A'A. It is found in the
// Krylov space of a fixed start: power iteration that keeps every iterate (Lanczos, fully reorthogonalised), one pass
// over A each. The rules below are stated once, in vmeg_edge/kernels/reference.py; the constants are the same there.
#pragma once

#include <cstddef>

#include "eigencam_kernels.hpp"

namespace vmeg {

// float32 activations [rows, columns]: rows are positions. Strides are bytes and may be negative.
struct ActivationsView {
    const char* data;
    std::size_t rows;
    std::size_t columns;
    std::ptrdiff_t row_stride;
    std::ptrdiff_t column_stride;
};

enum class CamStatus {
    ok,
    flat,        // nothing varies over positions: the map and the vector are zeros
    not_finite,  // NaN or infinity: nothing was written
};

// Writes the map [rows], in 0..1, and the signed unit vector [columns]. `direction` [columns] orients the vector; it
// may be null.
CamStatus eigencam(const ActivationsView& activations, const float* direction, const EigenCamKernels& kernels,
                   float* map, float* vector);

}  // namespace vmeg

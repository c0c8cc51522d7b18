// The hot loops of Eigen-CAM: column sums, centring, the fused pass over the activations, orthogonalisation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmeg {

struct EigenCamKernels {
    // sums[c] += row[c] in double. Returns the larger of `largest` and the bits of the row's largest magnitude: they
    // order as the magnitudes do, and whatever is not finite comes out above kLargestFinite.
    std::uint32_t (*add_row)(const float* row, std::size_t columns, double* sums, std::uint32_t largest);

    // centred[c] = row[c] * scale - mean_high[c] - mean_low[c] (the mean is of the scaled rows), and start[c] += weight * centred[c]. Returns the
    // larger of `largest` and the bits of the largest magnitude in `centred`.
    std::uint32_t (*centre_row)(const float* row, std::size_t columns, const float* mean_high,
                                const float* mean_low, float scale, float weight, float* centred, float* start,
                                std::uint32_t largest);

    // s = A v and w = A'A v in one pass: a row is read from memory once, used twice.
    void (*pass)(const float* a, std::size_t rows, std::size_t columns, const float* v, float* s, float* w);
    void (*pass_double)(const float* a, std::size_t rows, std::size_t columns, const double* v, double* s,
                        double* w);

    // Takes the components along `count` orthonormal basis vectors out of w, once.
    void (*orthogonalise)(const float* basis, std::size_t count, std::size_t columns, float* w);

    // target[c] += weight * values[c].
    void (*accumulate)(const float* values, std::size_t columns, double weight, double* target);

    double (*dot)(const float* a, const float* b, std::size_t columns);
    double (*dot_mixed)(const float* a, const double* b, std::size_t columns);
};

constexpr std::uint32_t kLargestFinite = 0x7F7FFFFF;

#define VMEG_DECLARE(isa) \
    namespace isa {       \
    extern const EigenCamKernels eigencam_kernels; \
    }
VMEG_DECLARE(baseline)
VMEG_DECLARE(avx2)
VMEG_DECLARE(avx512)
VMEG_DECLARE(neon)
#undef VMEG_DECLARE

}  // namespace vmeg

// Compiled once per instruction set, and written for the compiler to vectorise: four rows at a time give it four
// independent sums. As in resize_kernels.cpp, nothing here may instantiate inline functions of the standard library.
#include "eigencam_kernels.hpp"

#include <cstring>

#include "simd.hpp"

namespace vmeg::VMEG_ISA {
namespace {

std::uint32_t magnitude_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFFU;
}

std::uint32_t largest_magnitude(const float* VMEG_RESTRICT values, std::size_t columns, std::uint32_t largest) {
    auto found = static_cast<std::int32_t>(largest);
    VMEG_SIMD(reduction(max : found))
    for (std::size_t c = 0; c < columns; ++c) {
        const auto bits = static_cast<std::int32_t>(magnitude_bits(values[c]));
        found = bits > found ? bits : found;
    }
    return static_cast<std::uint32_t>(found);
}

std::uint32_t add_row(const float* VMEG_RESTRICT row, std::size_t columns, double* VMEG_RESTRICT sums,
                      std::uint32_t largest) {
    VMEG_SIMD()
    for (std::size_t c = 0; c < columns; ++c) sums[c] += static_cast<double>(row[c]);
    return largest_magnitude(row, columns, largest);
}

std::uint32_t centre_row(const float* VMEG_RESTRICT row, std::size_t columns, const float* VMEG_RESTRICT mean_high,
                         const float* VMEG_RESTRICT mean_low, float scale, float weight,
                         float* VMEG_RESTRICT centred, float* VMEG_RESTRICT start, std::uint32_t largest) {
    VMEG_SIMD()
    for (std::size_t c = 0; c < columns; ++c) {
        const float value = (row[c] * scale - mean_high[c]) - mean_low[c];
        centred[c] = value;
        start[c] += weight * value;
    }
    return largest_magnitude(centred, columns, largest);
}

template <typename Real>
void fused_pass(const float* VMEG_RESTRICT a, std::size_t rows, std::size_t columns, const Real* VMEG_RESTRICT v,
                Real* VMEG_RESTRICT s, Real* VMEG_RESTRICT w) {
    for (std::size_t c = 0; c < columns; ++c) w[c] = 0;
    std::size_t row = 0;
    for (; row + 4 <= rows; row += 4) {
        const float* VMEG_RESTRICT a0 = a + row * columns;
        const float* VMEG_RESTRICT a1 = a0 + columns;
        const float* VMEG_RESTRICT a2 = a1 + columns;
        const float* VMEG_RESTRICT a3 = a2 + columns;
        Real s0 = 0;
        Real s1 = 0;
        Real s2 = 0;
        Real s3 = 0;
        VMEG_SIMD(reduction(+ : s0, s1, s2, s3))
        for (std::size_t c = 0; c < columns; ++c) {
            s0 += static_cast<Real>(a0[c]) * v[c];
            s1 += static_cast<Real>(a1[c]) * v[c];
            s2 += static_cast<Real>(a2[c]) * v[c];
            s3 += static_cast<Real>(a3[c]) * v[c];
        }
        VMEG_SIMD()
        for (std::size_t c = 0; c < columns; ++c) {
            w[c] += (s0 * static_cast<Real>(a0[c]) + s1 * static_cast<Real>(a1[c])) +
                    (s2 * static_cast<Real>(a2[c]) + s3 * static_cast<Real>(a3[c]));
        }
        s[row] = s0;
        s[row + 1] = s1;
        s[row + 2] = s2;
        s[row + 3] = s3;
    }
    for (; row < rows; ++row) {
        const float* VMEG_RESTRICT a0 = a + row * columns;
        Real s0 = 0;
        VMEG_SIMD(reduction(+ : s0))
        for (std::size_t c = 0; c < columns; ++c) s0 += static_cast<Real>(a0[c]) * v[c];
        VMEG_SIMD()
        for (std::size_t c = 0; c < columns; ++c) w[c] += s0 * static_cast<Real>(a0[c]);
        s[row] = s0;
    }
}

void pass(const float* a, std::size_t rows, std::size_t columns, const float* v, float* s, float* w) {
    fused_pass<float>(a, rows, columns, v, s, w);
}

void pass_double(const float* a, std::size_t rows, std::size_t columns, const double* v, double* s, double* w) {
    fused_pass<double>(a, rows, columns, v, s, w);
}

// Modified Gram-Schmidt by blocks of four: the four sums of a block are taken from the same w.
void orthogonalise(const float* VMEG_RESTRICT basis, std::size_t count, std::size_t columns, float* VMEG_RESTRICT w) {
    std::size_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const float* VMEG_RESTRICT v0 = basis + k * columns;
        const float* VMEG_RESTRICT v1 = v0 + columns;
        const float* VMEG_RESTRICT v2 = v1 + columns;
        const float* VMEG_RESTRICT v3 = v2 + columns;
        float d0 = 0;
        float d1 = 0;
        float d2 = 0;
        float d3 = 0;
        VMEG_SIMD(reduction(+ : d0, d1, d2, d3))
        for (std::size_t c = 0; c < columns; ++c) {
            d0 += v0[c] * w[c];
            d1 += v1[c] * w[c];
            d2 += v2[c] * w[c];
            d3 += v3[c] * w[c];
        }
        VMEG_SIMD()
        for (std::size_t c = 0; c < columns; ++c) {
            w[c] -= (d0 * v0[c] + d1 * v1[c]) + (d2 * v2[c] + d3 * v3[c]);
        }
    }
    for (; k < count; ++k) {
        const float* VMEG_RESTRICT v0 = basis + k * columns;
        float d0 = 0;
        VMEG_SIMD(reduction(+ : d0))
        for (std::size_t c = 0; c < columns; ++c) d0 += v0[c] * w[c];
        VMEG_SIMD()
        for (std::size_t c = 0; c < columns; ++c) w[c] -= d0 * v0[c];
    }
}

void accumulate(const float* VMEG_RESTRICT values, std::size_t columns, double weight,
                double* VMEG_RESTRICT target) {
    VMEG_SIMD()
    for (std::size_t c = 0; c < columns; ++c) target[c] += weight * static_cast<double>(values[c]);
}

template <typename Other>
double dot_of(const float* VMEG_RESTRICT a, const Other* VMEG_RESTRICT b, std::size_t columns) {
    double sum = 0;
    VMEG_SIMD(reduction(+ : sum))
    for (std::size_t c = 0; c < columns; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
    return sum;
}

double dot(const float* a, const float* b, std::size_t columns) { return dot_of<float>(a, b, columns); }

double dot_mixed(const float* a, const double* b, std::size_t columns) { return dot_of<double>(a, b, columns); }

}  // namespace

const EigenCamKernels eigencam_kernels = {add_row,    centre_row, pass, pass_double, orthogonalise,
                                          accumulate, dot,        dot_mixed};

}  // namespace vmeg::VMEG_ISA

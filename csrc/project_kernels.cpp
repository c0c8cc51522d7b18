// Compiled once per instruction set, and written for the compiler to vectorise: four rows by two axes give it eight
// independent sums. As in resize_kernels.cpp, nothing here may instantiate inline functions of the standard library.
#include "project_kernels.hpp"

#include "simd.hpp"

namespace vmeg::VMEG_ISA {
namespace {

float dot(const float* VMEG_RESTRICT a, const float* VMEG_RESTRICT b, std::size_t columns) {
    float sum = 0;
    VMEG_SIMD(reduction(+ : sum))
    for (std::size_t c = 0; c < columns; ++c) sum += a[c] * b[c];
    return sum;
}

double energy(const float* VMEG_RESTRICT a, std::size_t columns) {
    float sum = 0;
    VMEG_SIMD(reduction(+ : sum))
    for (std::size_t c = 0; c < columns; ++c) sum += a[c] * a[c];
    return static_cast<double>(sum);
}

void four_rows_on_two(const float* VMEG_RESTRICT a, std::size_t columns, const float* VMEG_RESTRICT p,
                      const float* VMEG_RESTRICT q, std::size_t count, float* VMEG_RESTRICT out) {
    const float* VMEG_RESTRICT a1 = a + columns;
    const float* VMEG_RESTRICT a2 = a1 + columns;
    const float* VMEG_RESTRICT a3 = a2 + columns;
    float p0 = 0;
    float p1 = 0;
    float p2 = 0;
    float p3 = 0;
    float q0 = 0;
    float q1 = 0;
    float q2 = 0;
    float q3 = 0;
    VMEG_SIMD(reduction(+ : p0, p1, p2, p3, q0, q1, q2, q3))
    for (std::size_t c = 0; c < columns; ++c) {
        p0 += a[c] * p[c];
        p1 += a1[c] * p[c];
        p2 += a2[c] * p[c];
        p3 += a3[c] * p[c];
        q0 += a[c] * q[c];
        q1 += a1[c] * q[c];
        q2 += a2[c] * q[c];
        q3 += a3[c] * q[c];
    }
    out[0] = p0;
    out[1] = q0;
    out[count] = p1;
    out[count + 1] = q1;
    out[2 * count] = p2;
    out[2 * count + 1] = q2;
    out[3 * count] = p3;
    out[3 * count + 1] = q3;
}

double project(const float* a, std::size_t rows, std::size_t columns, const float* axes, std::size_t count,
               float* out) {
    double squares = 0;
    for (std::size_t row = 0; row < rows; ++row) squares += energy(a + row * columns, columns);
    const std::size_t paired = count - count % 2;
    const std::size_t blocked = rows - rows % 4;
    for (std::size_t row = 0; row < blocked; row += 4) {
        for (std::size_t k = 0; k < paired; k += 2) {
            four_rows_on_two(a + row * columns, columns, axes + k * columns, axes + (k + 1) * columns, count,
                             out + row * count + k);
        }
    }
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t k = row < blocked ? paired : 0; k < count; ++k) {
            out[row * count + k] = dot(a + row * columns, axes + k * columns, columns);
        }
    }
    return squares;
}

}  // namespace

const ProjectKernels project_kernels = {project};

}  // namespace vmeg::VMEG_ISA

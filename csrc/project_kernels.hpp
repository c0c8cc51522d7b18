// The hot loop of the plane gate: every token on a few axes, and how much energy the tokens hold.
#pragma once

#include <cstddef>

namespace vmeg {

struct ProjectKernels {
    // out[row, k] = rows[row] . axes[k], for `rows` rows and `axes` axes of `columns` floats each. Returns the sum of all
    // squares.
    double (*project)(const float* a, std::size_t rows, std::size_t columns, const float* axes, std::size_t count,
                      float* out);
};

#define VMEG_DECLARE(isa) \
    namespace isa {       \
    extern const ProjectKernels project_kernels; \
    }
VMEG_DECLARE(baseline)
VMEG_DECLARE(avx2)
VMEG_DECLARE(avx512)
VMEG_DECLARE(neon)
#undef VMEG_DECLARE

}  // namespace vmeg

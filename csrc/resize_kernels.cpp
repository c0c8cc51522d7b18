// Compiled once per instruction set: exact weighted sums of 8-bit pixels.
//
// Nothing here may instantiate an inline function of the standard library: the linker keeps one copy of such a
// function for the whole module, and it could be the copy that an older processor cannot run.
#include "resize_kernels.hpp"

#if defined(__AVX2__)
#include "resize_avx2.hpp"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "resize_dot.hpp"
#else
#include "resize_portable.hpp"
#endif

#if !defined(VMEG_ISA)
#error "VMEG_ISA must name the instruction set that this file is compiled for"
#endif

namespace vmeg::VMEG_ISA {

const ResizeKernels resize_kernels = {along_rows, down_rows};

}  // namespace vmeg::VMEG_ISA

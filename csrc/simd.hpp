// What the files that are compiled once per instruction set share: the guard, and the loops the compiler vectorises.
#pragma once

#if !defined(VMEG_ISA)
#error "VMEG_ISA must name the instruction set that this file is compiled for"
#endif

#if defined(_MSC_VER)
#define VMEG_RESTRICT __restrict
#define VMEG_SIMD(clauses) __pragma(omp simd clauses)
#else
#define VMEG_RESTRICT __restrict__
#define VMEG_PRAGMA(text) _Pragma(#text)
#define VMEG_SIMD(clauses) VMEG_PRAGMA(omp simd clauses)
#endif

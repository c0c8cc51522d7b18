// The leading eigenpair of a small symmetric tridiagonal matrix, and shifted solves with it.
#pragma once

#include <cstddef>
#include <vector>

namespace vmeg {

// `diagonal` has k entries, `off` at least k - 1 positive ones.
struct Tridiagonal {
    const double* diagonal;
    const double* off;
    std::size_t size;

    // How many eigenvalues are greater than x (Sturm's count).
    [[nodiscard]] std::size_t above(double x) const;

    // The eigenvalue of that rank (0: the largest), by bisection to a relative 1e-9 of the largest's bound.
    [[nodiscard]] double eigenvalue(std::size_t rank) const;

    // Replaces x by the solution of (T - shift) y = x, with partial pivoting. A pivot of zero is nudged, so that an
    // eigenvalue may be the shift: the answer is then dominated by its eigenvector, which is what callers want.
    void solve_shifted(double shift, std::vector<double>& x) const;

    // The unit eigenvector of `value`, by inverse iteration. Its sign is arbitrary.
    [[nodiscard]] std::vector<double> eigenvector(double value) const;
};

}  // namespace vmeg

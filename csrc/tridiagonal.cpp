// Bisection and inverse iteration (Golub and Van Loan, Matrix Computations, 8.4 and 8.2.2).
#include "tridiagonal.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vmeg {

std::size_t Tridiagonal::above(double x) const {
    constexpr double kTiny = 1e-300;
    std::size_t found = 0;
    double pivot = 1.0;
    for (std::size_t i = 0; i < size; ++i) {
        const double coupling = i == 0 ? 0.0 : off[i - 1] * off[i - 1];
        pivot = diagonal[i] - x - coupling / pivot;
        if (pivot == 0.0) pivot = -kTiny;
        if (pivot > 0.0) ++found;
    }
    return found;
}

double Tridiagonal::eigenvalue(std::size_t rank) const {
    double low = std::numeric_limits<double>::max();
    double high = std::numeric_limits<double>::lowest();
    for (std::size_t i = 0; i < size; ++i) {  // Gershgorin's discs
        const double radius = (i == 0 ? 0.0 : off[i - 1]) + (i + 1 == size ? 0.0 : off[i]);
        low = std::min(low, diagonal[i] - radius);
        high = std::max(high, diagonal[i] + radius);
    }
    const double enough = 1e-9 * std::max(std::fabs(low), std::fabs(high));
    while (high - low > enough) {
        const double middle = 0.5 * (low + high);
        (above(middle) > rank ? low : high) = middle;
    }
    return 0.5 * (low + high);
}

void Tridiagonal::solve_shifted(double shift, std::vector<double>& x) const {
    // Rows are [p q r] from the pivot on: pivoting fills in the second superdiagonal.
    std::vector<double> p(size);
    std::vector<double> q(size, 0.0);
    std::vector<double> r(size, 0.0);
    for (std::size_t i = 0; i < size; ++i) {
        p[i] = diagonal[i] - shift;
        if (i + 1 < size) q[i] = off[i];
    }
    const double nudge = 1e-15 * std::max(std::fabs(shift), std::numeric_limits<double>::min() * 1e20);
    for (std::size_t i = 0; i + 1 < size; ++i) {
        double below = off[i];
        if (std::fabs(below) > std::fabs(p[i])) {
            std::swap(below, p[i]);
            std::swap(q[i], p[i + 1]);
            std::swap(r[i], q[i + 1]);
            std::swap(x[i], x[i + 1]);
        }
        if (std::fabs(p[i]) < nudge) p[i] = nudge;
        const double factor = below / p[i];
        p[i + 1] -= factor * q[i];
        q[i + 1] -= factor * r[i];
        x[i + 1] -= factor * x[i];
    }
    if (std::fabs(p[size - 1]) < nudge) p[size - 1] = nudge;
    for (std::size_t i = size; i-- > 0;) {
        double value = x[i];
        if (i + 1 < size) value -= q[i] * x[i + 1];
        if (i + 2 < size) value -= r[i] * x[i + 2];
        x[i] = value / p[i];
    }
}

std::vector<double> Tridiagonal::eigenvector(double value) const {
    std::vector<double> vector(size, 1.0);
    for (int iteration = 0; iteration < 3; ++iteration) {
        solve_shifted(value, vector);
        double largest = 0.0;
        for (const double entry : vector) largest = std::max(largest, std::fabs(entry));
        double square = 0.0;
        for (double& entry : vector) {
            entry /= largest;
            square += entry * entry;
        }
        const double norm = std::sqrt(square);
        for (double& entry : vector) entry /= norm;
    }
    return vector;
}

}  // namespace vmeg

// Centre, iterate, refine where the leading gap is small, fix the sign, scale to 0..1.
#include "eigencam.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tridiagonal.hpp"

namespace vmeg {
namespace {

constexpr float kFlat = 0x1p-20F;             // what varies less than this part of the largest magnitude is noise
constexpr double kTie = 1e-6;                 // relative: below it, a rule of the sign does not decide
constexpr double kExhausted = 3e-6;           // relative: below it, what an iteration adds is rounding
constexpr double kAngle = 1e-6;               // the vector's error, in radians, at which iteration stops
constexpr double kSmallestGap = 1e-4;         // relative: closer eigenvalues are not told apart
constexpr double kRefineGap = 0.1;            // relative: below it, float32 passes are not accurate enough
constexpr double kTiedGap = 4e-6;             // relative: below it, there is no single vector to refine
constexpr std::size_t kMostIterations = 256;  // a gap of sigma2 = 0.999 sigma1 takes fewer

// What a thread keeps between calls, so that a stream of equal shapes allocates next to nothing.
struct Workspace {
    std::vector<float> centred;             // [rows, columns]
    std::vector<float> basis, projections;  // the iterates [k, columns], and A times each [k, rows]
    std::vector<float> mean_high, mean_low, packed, w;
    std::vector<double> sums, vector, scores;  // [columns], [columns], [rows]
    std::vector<double> residual, exact_scores;
};

// A row as adjacent, aligned floats: in place where it is, else a copy.
const float* packed_row(const ActivationsView& a, std::size_t row, std::vector<float>& copy) {
    const char* from = a.data + static_cast<std::ptrdiff_t>(row) * a.row_stride;
    const bool aligned = reinterpret_cast<std::uintptr_t>(from) % alignof(float) == 0;
    if (aligned && a.column_stride == static_cast<std::ptrdiff_t>(sizeof(float))) {
        return reinterpret_cast<const float*>(from);
    }
    for (std::size_t c = 0; c < a.columns; ++c, from += a.column_stride) std::memcpy(&copy[c], from, sizeof(float));
    return copy.data();
}

// The start in position space: a fixed hash of the position (MurmurHash3's finaliser), in -1..1.
float start_weight(std::size_t position) {
    auto x = static_cast<std::uint32_t>(position + 1);
    x = (x ^ (x >> 16)) * 0x85EBCA6BU;
    x = (x ^ (x >> 13)) * 0xC2B2AE35U;
    x ^= x >> 16;
    return static_cast<float>(static_cast<double>(x) / 2147483648.0 - 1.0);
}

float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Fills `centred` with the centred activations times a power of two that brings the largest magnitude near one, so
// that no square overflows or vanishes, and `w` with the start, A'u.
CamStatus centre(const ActivationsView& a, const EigenCamKernels& kernels, Workspace& work) {
    work.sums.assign(a.columns, 0.0);
    work.packed.resize(a.columns);
    std::uint32_t largest_bits = 0;
    for (std::size_t row = 0; row < a.rows; ++row) {
        const float* values = packed_row(a, row, work.packed);
        largest_bits = kernels.add_row(values, a.columns, work.sums.data(), largest_bits);
    }
    if (largest_bits > kLargestFinite) return CamStatus::not_finite;
    const float largest = from_bits(largest_bits);
    int exponent = 0;
    std::frexp(largest, &exponent);
    const float scale = std::ldexp(1.0F, -std::clamp(exponent, -126, 126));

    work.mean_high.resize(a.columns);
    work.mean_low.resize(a.columns);
    for (std::size_t c = 0; c < a.columns; ++c) {
        const double mean = work.sums[c] * static_cast<double>(scale) / static_cast<double>(a.rows);
        work.mean_high[c] = static_cast<float>(mean);
        work.mean_low[c] = static_cast<float>(mean - static_cast<double>(work.mean_high[c]));
    }
    work.centred.resize(a.rows * a.columns);
    work.w.assign(a.columns, 0.0F);
    std::uint32_t spread_bits = 0;
    for (std::size_t row = 0; row < a.rows; ++row) {
        const float* values = packed_row(a, row, work.packed);
        spread_bits = kernels.centre_row(values, a.columns, work.mean_high.data(), work.mean_low.data(), scale,
                                         start_weight(row), work.centred.data() + row * a.columns, work.w.data(),
                                         spread_bits);
    }
    return from_bits(spread_bits) <= kFlat * (largest * scale) ? CamStatus::flat : CamStatus::ok;
}

// The leading Ritz pair of the iterates so far, and how far it is from having converged.
struct RitzPair {
    double value = 0.0;
    double gap = 0.0;  // to the next Ritz value, relative
    std::vector<double> weights;
    bool converged = false;
};

RitzPair leading_pair(const Tridiagonal& t, double next_off, double known_gap) {
    RitzPair pair;
    pair.value = t.eigenvalue(0);
    pair.gap = t.size == 1 ? known_gap : std::min(known_gap, (pair.value - t.eigenvalue(1)) / pair.value);
    pair.weights = t.eigenvector(pair.value);
    const double residual = next_off * std::fabs(pair.weights.back()) / pair.value;
    pair.converged = residual <= kAngle * std::max(pair.gap, kSmallestGap);
    return pair;
}

// A Ritz pair costs a little, an iteration more: look every second iteration at first, then less often.
bool time_to_look(std::size_t iterations) {
    return iterations < 24 ? iterations >= 4 && iterations % 2 == 0 : iterations % 8 == 0;
}

double norm(const std::vector<float>& w, const EigenCamKernels& kernels) {
    return std::sqrt(kernels.dot(w.data(), w.data(), w.size()));
}

// sum(weights[k] * rows[k]) in double.
void combine(const std::vector<double>& weights, const std::vector<float>& rows, std::size_t length,
             const EigenCamKernels& kernels, std::vector<double>& sum) {
    for (std::size_t k = 0; k < weights.size(); ++k) {
        kernels.accumulate(rows.data() + k * length, length, weights[k], sum.data());
    }
}

double inner(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

void remove_component(const std::vector<double>& unit, std::vector<double>& x) {
    const double along = inner(unit, x);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= along * unit[i];
}

// One step of Newton's method in the Krylov space, from a residual in double. Rounding in the float32 passes is
// amplified by one over the gap along the neighbouring eigenvectors, and the space holds just those.
void refine(const Tridiagonal& t, const RitzPair& pair, std::size_t rows, std::size_t columns,
            const EigenCamKernels& kernels, Workspace& work) {
    const double length = std::sqrt(inner(work.vector, work.vector));
    for (double& entry : work.vector) entry /= length;
    work.residual.resize(columns);
    work.exact_scores.resize(rows);
    kernels.pass_double(work.centred.data(), rows, columns, work.vector.data(), work.exact_scores.data(),
                        work.residual.data());
    const double value = inner(work.exact_scores, work.exact_scores);
    for (std::size_t c = 0; c < columns; ++c) work.residual[c] -= value * work.vector[c];
    std::vector<double> step(t.size);
    for (std::size_t k = 0; k < t.size; ++k) {
        step[k] = -kernels.dot_mixed(work.basis.data() + k * columns, work.residual.data(), columns);
    }
    remove_component(pair.weights, step);
    t.solve_shifted(pair.value, step);
    remove_component(pair.weights, step);
    work.scores = work.exact_scores;
    combine(step, work.basis, columns, kernels, work.vector);
    combine(step, work.projections, rows, kernels, work.scores);
}

// The same iteration in double, from a vector that is nearly right: most often one pass, which finds it right. It is
// needed where all singular values are close, so that what an iteration adds is small and float32 leaves it inexact.
void polish(double gap, std::size_t rows, std::size_t columns, const EigenCamKernels& kernels, Workspace& work) {
    // One more than the rank: the start may have a part that the activations do not reach.
    const std::size_t most = std::min({rows, columns, kMostIterations});
    std::vector<std::vector<double>> basis;
    std::vector<std::vector<double>> projections;
    std::vector<double> diagonal;
    std::vector<double> off;
    std::vector<double> w = work.vector;
    RitzPair pair;
    while (true) {
        const double length = std::sqrt(inner(w, w));
        if (!diagonal.empty()) off.push_back(length);
        for (double& entry : w) entry /= length;
        basis.push_back(w);
        projections.emplace_back(rows);
        kernels.pass_double(work.centred.data(), rows, columns, basis.back().data(), projections.back().data(),
                            w.data());
        diagonal.push_back(inner(projections.back(), projections.back()));
        for (int twice = 0; twice < 2; ++twice) {
            for (const std::vector<double>& v : basis) remove_component(v, w);
        }
        const double next_off = std::sqrt(inner(w, w));
        pair = leading_pair({diagonal.data(), off.data(), diagonal.size()}, next_off, gap);
        if (pair.converged || diagonal.size() == most || next_off <= 1e-13 * pair.value) break;
    }
    work.vector.assign(columns, 0.0);
    work.scores.assign(rows, 0.0);
    for (std::size_t k = 0; k < basis.size(); ++k) {
        for (std::size_t c = 0; c < columns; ++c) work.vector[c] += pair.weights[k] * basis[k][c];
        for (std::size_t row = 0; row < rows; ++row) work.scores[row] += pair.weights[k] * projections[k][row];
    }
}

// Fills `vector` and `scores` with the leading right singular vector and the projections on it, of either sign.
// False where the start has no component along any singular vector.
bool leading_vector(std::size_t rows, std::size_t columns, const EigenCamKernels& kernels, Workspace& work) {
    const std::size_t most = std::min({rows - 1, columns, kMostIterations});
    std::vector<double> diagonal;
    std::vector<double> off;
    RitzPair pair;
    double next_off = norm(work.w, kernels);
    if (next_off == 0.0) return false;
    while (true) {
        const std::size_t k = diagonal.size();
        work.basis.resize(std::max(work.basis.size(), (k + 1) * columns));
        work.projections.resize(std::max(work.projections.size(), (k + 1) * rows));
        float* v = work.basis.data() + k * columns;
        float* s = work.projections.data() + k * rows;
        const auto inverse = static_cast<float>(1.0 / next_off);
        for (std::size_t c = 0; c < columns; ++c) v[c] = work.w[c] * inverse;
        kernels.pass(work.centred.data(), rows, columns, v, s, work.w.data());
        diagonal.push_back(kernels.dot(s, s, rows));
        // Twice is enough (Parlett, The Symmetric Eigenvalue Problem, 6.9).
        kernels.orthogonalise(work.basis.data(), k + 1, columns, work.w.data());
        kernels.orthogonalise(work.basis.data(), k + 1, columns, work.w.data());
        next_off = norm(work.w, kernels);
        const double largest = *std::max_element(diagonal.begin(), diagonal.end());
        const bool exhausted = k + 1 == most || next_off <= kExhausted * largest;
        // A small remainder is mostly rounding soon: going on would find a second copy of the leading vector.
        if (exhausted || next_off <= 1e-3 * largest || time_to_look(k + 1)) {
            pair = leading_pair({diagonal.data(), off.data(), diagonal.size()}, next_off, 1.0);
            if (exhausted || pair.converged) break;
        }
        off.push_back(next_off);
    }
    work.vector.assign(columns, 0.0);
    work.scores.assign(rows, 0.0);
    combine(pair.weights, work.basis, columns, kernels, work.vector);
    combine(pair.weights, work.projections, rows, kernels, work.scores);
    if (pair.gap < kRefineGap && pair.gap > kTiedGap) {
        refine({diagonal.data(), off.data(), diagonal.size()}, pair, rows, columns, kernels, work);
        polish(pair.gap, rows, columns, kernels, work);
    }
    return true;
}

// +1 or -1: what the projections are to be multiplied with. The rules in their order are in reference.py.
double sign_of(const Workspace& work, const float* direction, const EigenCamKernels& kernels) {
    const std::size_t columns = work.vector.size();
    if (direction != nullptr) {
        const double along = kernels.dot_mixed(direction, work.vector.data(), columns);
        const double length = std::sqrt(kernels.dot(direction, direction, columns) * inner(work.vector, work.vector));
        if (std::fabs(along) > kTie * length) return along > 0.0 ? 1.0 : -1.0;
    }
    double third = 0.0;
    double third_abs = 0.0;
    double highest = 0.0;
    double lowest = 0.0;
    for (const double score : work.scores) {
        const double cube = score * score * score;
        third += cube;
        third_abs += std::fabs(cube);
        highest = std::max(highest, score);
        lowest = std::min(lowest, score);
    }
    if (std::fabs(third) > kTie * third_abs) return third > 0.0 ? 1.0 : -1.0;
    const double largest = std::max(highest, -lowest);
    if (std::fabs(highest + lowest) > kTie * largest) return highest > -lowest ? 1.0 : -1.0;
    for (const double score : work.scores) {
        if (std::fabs(score) > kTie * largest) return score > 0.0 ? 1.0 : -1.0;
    }
    return 1.0;
}

}  // namespace

CamStatus eigencam(const ActivationsView& activations, const float* direction, const EigenCamKernels& kernels,
                   float* map, float* vector) {
    static thread_local Workspace work;
    const std::size_t rows = activations.rows;
    const std::size_t columns = activations.columns;
    const CamStatus status = centre(activations, kernels, work);
    if (status == CamStatus::not_finite) return status;
    if (status == CamStatus::flat || rows < 2 || !leading_vector(rows, columns, kernels, work)) {
        std::fill_n(map, rows, 0.0F);
        std::fill_n(vector, columns, 0.0F);
        return CamStatus::flat;
    }
    const double sign = sign_of(work, direction, kernels);
    const double length = std::sqrt(inner(work.vector, work.vector));
    for (std::size_t c = 0; c < columns; ++c) vector[c] = static_cast<float>(sign * work.vector[c] / length);

    double low = std::max(sign * work.scores[0], 0.0);
    double high = low;
    for (const double score : work.scores) {
        low = std::min(low, std::max(sign * score, 0.0));
        high = std::max(high, sign * score);
    }
    const double range = high - low;
    for (std::size_t row = 0; row < rows; ++row) {
        const double hot = std::max(sign * work.scores[row], 0.0);
        map[row] = range > 0.0 ? static_cast<float>((hot - low) / range) : 0.0F;
    }
    return CamStatus::ok;
}

}  // namespace vmeg

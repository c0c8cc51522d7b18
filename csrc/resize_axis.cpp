// Weights as Pillow's resampling defines them: a triangle or a cubic (a = -0.5), widened when the picture shrinks.
//
// Every operation below is in double and in Pillow's order, so that each weight rounds to the same integer; this file
// must be compiled without contraction of a*b+c.
#include "resize_axis.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace vmeg {
namespace {

double triangle(double x) {
    x = std::fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

double cubic(double x) {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

struct Window {
    int start;
    std::vector<std::int32_t> weights;
};

std::vector<Window> windows(int inputs, int outputs, Filter filter) {
    const auto kernel = filter == Filter::bilinear ? triangle : cubic;
    const double scale = static_cast<double>(inputs) / outputs;
    const double widening = scale < 1.0 ? 1.0 : scale;
    const double support = (filter == Filter::bilinear ? 1.0 : 2.0) * widening;
    const double per_input = 1.0 / widening;
    std::vector<Window> found;
    found.reserve(static_cast<std::size_t>(outputs));
    std::vector<double> weights;
    for (int output = 0; output < outputs; ++output) {
        const double centre = (output + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int last = std::min(static_cast<int>(centre + support + 0.5), inputs);
        weights.clear();
        double total = 0.0;
        for (int tap = 0; tap < last - first; ++tap) {
            weights.push_back(kernel((tap + first - centre + 0.5) * per_input));
            total += weights.back();
        }
        Window window{first, {}};
        for (double weight : weights) {
            if (total != 0.0) weight /= total;
            const double scaled = weight * (1 << kPrecisionBits);
            window.weights.push_back(static_cast<std::int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5));
        }
        found.push_back(std::move(window));
    }
    return found;
}

}  // namespace

Axis::Axis(int inputs, int outputs, Filter filter, int group, int readable_extra) : outputs_(outputs) {
    const std::vector<Window> found = windows(inputs, outputs, filter);
    std::vector<int> moved;
    for (const Window& window : found) {
        const int taps = static_cast<int>(window.weights.size());
        int by = 0;
        if (readable_extra >= 0) {
            while (window.start - by + whole_groups(taps + by, group) + readable_extra > inputs) {
                if (by == window.start) {
                    needs_slack_ = true;
                    by = 0;
                    break;
                }
                ++by;
            }
        }
        moved.push_back(by);
        start_.push_back(window.start - by);
        count_.push_back(taps + by);
        stride_ = std::max(stride_, whole_groups(taps + by, group));
        longest_ = std::max(longest_, taps + by);
    }
    exact_.assign(static_cast<std::size_t>(stride_) * found.size(), 0);
    for (std::size_t output = 0; output < found.size(); ++output) {
        const std::size_t at = output * static_cast<std::size_t>(stride_) + static_cast<std::size_t>(moved[output]);
        std::copy(found[output].weights.begin(), found[output].weights.end(),
                  exact_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    make_coarse();
    make_digits();
}

// With e = exact - coarse * 2^shift and pixels in 0..255, sum(pixel * e) lies within 127.5 * sum(|e|) of
// 127.5 * sum(e): the bias is the upper end, the band is the distance between the two.
void Axis::make_coarse() {
    std::int32_t largest = 0;
    for (const std::int32_t weight : exact_) largest = std::max(largest, std::abs(weight));
    while (((largest + (1 << shift_ >> 1)) >> shift_) > INT16_MAX) ++shift_;
    const std::int64_t unit = std::int64_t{1} << shift_;
    const std::int64_t half = unit >> 1;
    coarse_.reserve(exact_.size());
    for (const std::int32_t weight : exact_) {
        coarse_.push_back(static_cast<std::int16_t>((weight + half) >> shift_));
    }
    for (std::size_t output = 0; output < start_.size(); ++output) {
        std::int64_t sum = 0;
        std::int64_t sum_abs = 0;
        for (std::size_t tap = 0; tap < static_cast<std::size_t>(stride_); ++tap) {
            const std::size_t at = output * static_cast<std::size_t>(stride_) + tap;
            const std::int64_t error = exact_[at] - coarse_[at] * unit;
            sum += error;
            sum_abs += std::abs(error);
        }
        const std::int64_t twice_upper = (std::int64_t{1} << kPrecisionBits) + 255 * (sum + sum_abs);
        const std::int64_t twice_lower = (std::int64_t{1} << kPrecisionBits) + 255 * (sum - sum_abs);
        const std::int64_t upper = (twice_upper + 2 * unit - 1) >> (shift_ + 1);  // rounded up
        const std::int64_t lower = twice_lower >> (shift_ + 1);                   // rounded down
        bias_.push_back(static_cast<std::int32_t>(upper));
        band_ = std::max(band_, static_cast<int>(upper - lower));
    }
}

// Each digit is the signed low byte of what the ones before it left. No weight reaches 2^23: a window's centre lies in
// the picture, so that the largest is at most 1.2 of 2^22, and the third digit fits its byte.
void Axis::make_digits() {
    digits_.assign(exact_.size() * kDigitBytes, 0);
    for (std::size_t at = 0; at < exact_.size(); ++at) {
        std::int32_t rest = exact_[at];
        for (std::size_t digit = 0; digit < 3; ++digit) {
            const auto low = static_cast<std::int8_t>(rest & 0xFF);
            digits_[at / 4 * 4 * kDigitBytes + digit * 4 + at % 4] = low;
            rest = (rest - low) >> 8;
        }
    }
    for (std::size_t output = 0; output < start_.size(); ++output) {
        std::int32_t sum = 0;
        const std::int32_t* weights = exact_.data() + output * static_cast<std::size_t>(stride_);
        for (int tap = 0; tap < stride_; ++tap) sum += weights[tap];
        centred_.push_back((1 << (kPrecisionBits - 1)) + 128 * sum);
    }
}

AxisView Axis::view() const {
    return {start_.data(),   count_.data(), exact_.data(), coarse_.data(), bias_.data(), digits_.data(),
            centred_.data(), outputs_,      stride_,       shift_,         band_};
}

}  // namespace vmeg

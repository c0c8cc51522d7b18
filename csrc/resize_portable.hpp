// The hot loops in plain C++, exact throughout; compilers turn the inner ones into SSE2 or NEON.
#pragma once

#include "resize_exact.hpp"

namespace vmeg {
namespace {

void along_rows(const AxisView& axis, int channels, const std::uint8_t* const* sources,
                std::uint8_t* const* targets) {
    for (int row = 0; row < kRowsAtOnce; ++row) {
        std::uint8_t* target = targets[row];
        for (int x = 0; x < axis.outputs; ++x) {
            const std::uint8_t* window = sources[row] + axis.start[x] * channels;
            const std::int32_t* weights = axis.exact + x * axis.stride;
            for (int channel = 0; channel < channels; ++channel) {
                *target++ = exact_along(window + channel, channels, weights, axis.count[x]);
            }
        }
    }
}

void down_rows(const AxisView& axis, int output, const std::uint8_t* const* rows, std::size_t bytes,
               std::uint8_t* target) {
    constexpr std::size_t kBlock = 128;
    std::int32_t sums[kBlock];
    const std::int32_t* weights = axis.exact + output * axis.stride;
    for (std::size_t at = 0; at < bytes; at += kBlock) {
        const std::size_t length = bytes - at < kBlock ? bytes - at : kBlock;
        for (std::size_t i = 0; i < length; ++i) sums[i] = 1 << (kPrecisionBits - 1);
        for (int tap = 0; tap < axis.count[output]; ++tap) {
            const std::uint8_t* row = rows[tap] + at;
            const std::int32_t weight = weights[tap];
            for (std::size_t i = 0; i < length; ++i) sums[i] += row[i] * weight;
        }
        for (std::size_t i = 0; i < length; ++i) target[at + i] = round_to_byte(sums[i]);
    }
}

}  // namespace
}  // namespace vmeg

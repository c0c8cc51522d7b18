// The definition that every faster loop agrees with: one weighted sum in exact integers.
#pragma once

#include "resize_kernels.hpp"

namespace vmeg {
namespace {

inline std::uint8_t round_to_byte(std::int32_t sum) {
    const std::int32_t value = sum >> kPrecisionBits;
    return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

inline std::uint8_t exact_along(const std::uint8_t* pixel, int step, const std::int32_t* weights, int count) {
    std::int32_t sum = 1 << (kPrecisionBits - 1);
    for (int tap = 0; tap < count; ++tap) sum += pixel[tap * step] * weights[tap];
    return round_to_byte(sum);
}

inline std::uint8_t exact_down(const std::uint8_t* const* rows, std::size_t at, const std::int32_t* weights,
                               int count) {
    std::int32_t sum = 1 << (kPrecisionBits - 1);
    for (int tap = 0; tap < count; ++tap) sum += rows[tap][at] * weights[tap];
    return round_to_byte(sum);
}

}  // namespace
}  // namespace vmeg

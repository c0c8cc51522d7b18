// The hot loops with Arm's dot products of bytes: FEAT_DotProd (signed by signed), or FEAT_I8MM (unsigned by signed).
//
// A weight is three signed digits of base 256, and a digit is a byte: three dot products sum four taps of four lanes
// with the exact weights, so there is no band to settle. Sums wrap, as the digits' do; the total is in range.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "resize_exact.hpp"

namespace vmeg {
namespace {

// What four lanes have summed so far, a digit each.
struct DigitSums {
    int32x4_t low;
    int32x4_t middle;
    int32x4_t high;
};

#if defined(__ARM_FEATURE_MATMUL_INT8)

constexpr std::int32_t start_of(const AxisView&, int) { return 1 << (kPrecisionBits - 1); }

template <int digit>
int32x4_t dot(int32x4_t sums, uint8x16_t pixels, int8x16_t digits) {
    return vusdotq_laneq_s32(sums, pixels, digits, digit);
}

inline uint8x16_t factors(uint8x16_t pixels) { return pixels; }

#else

// Pixels are taken less 128, so that they are signed; `centred` holds what that takes from the sum.
inline std::int32_t start_of(const AxisView& axis, int output) { return axis.centred[output]; }

template <int digit>
int32x4_t dot(int32x4_t sums, int8x16_t pixels, int8x16_t digits) {
    return vdotq_laneq_s32(sums, pixels, digits, digit);
}

inline int8x16_t factors(uint8x16_t pixels) { return vreinterpretq_s8_u8(veorq_u8(pixels, vdupq_n_u8(0x80))); }

#endif

inline DigitSums start(std::int32_t value) { return {vdupq_n_s32(value), vdupq_n_s32(0), vdupq_n_s32(0)}; }

// Adds four taps to each lane: `pixels` holds a lane's four side by side, `digits` those of the four weights.
inline void multiply_add(DigitSums& sums, uint8x16_t pixels, int8x16_t digits) {
    const auto signed_or_not = factors(pixels);
    sums.low = dot<0>(sums.low, signed_or_not, digits);
    sums.middle = dot<1>(sums.middle, signed_or_not, digits);
    sums.high = dot<2>(sums.high, signed_or_not, digits);
}

inline int32x4_t total(const DigitSums& sums) {
    return vaddq_s32(vaddq_s32(sums.low, vshlq_n_s32(sums.middle, 8)), vshlq_n_s32(sums.high, 16));
}

// round_to_byte of sixteen sums: both narrowings cut at the ends of their range.
inline uint8x16_t round_to_bytes(const DigitSums* sums) {
    const uint16x4_t w0 = vqshrun_n_s32(total(sums[0]), 16);
    const uint16x4_t w1 = vqshrun_n_s32(total(sums[1]), 16);
    const uint16x4_t w2 = vqshrun_n_s32(total(sums[2]), 16);
    const uint16x4_t w3 = vqshrun_n_s32(total(sums[3]), 16);
    return vcombine_u8(vqshrn_n_u16(vcombine_u16(w0, w1), kPrecisionBits - 16),
                       vqshrn_n_u16(vcombine_u16(w2, w3), kPrecisionBits - 16));
}

inline const std::int8_t* digits_of(const AxisView& axis, int output) {
    return axis.digits + std::ptrdiff_t{kDigitBytes} * output * axis.stride;
}

inline std::uint32_t load4(const std::uint8_t* from) {
    std::uint32_t four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

inline void store4(std::uint8_t* to, std::uint32_t four) { std::memcpy(to, &four, sizeof four); }

// RGB: sixteen bytes hold four taps; one table look-up puts each colour's four side by side: r r r r g g g g b b b b.
void along_rows_rgb(const AxisView& axis, const std::uint8_t* const* sources, std::uint8_t* const* targets) {
    alignas(16) constexpr std::uint8_t kByColour[16] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 255, 255, 255, 255};
    const uint8x16_t by_colour = vld1q_u8(kByColour);
    for (int x = 0; x < axis.outputs; ++x) {
        const std::ptrdiff_t first = std::ptrdiff_t{3} * axis.start[x];
        const std::int8_t* digits = digits_of(axis, x);
        DigitSums sums[kRowsAtOnce];
        for (DigitSums& row : sums) row = start(start_of(axis, x));
        for (int tap = 0; tap < axis.count[x]; tap += 4) {
            const int8x16_t weights = vld1q_s8(digits + std::ptrdiff_t{kDigitBytes} * tap);
            for (int row = 0; row < kRowsAtOnce; ++row) {
                const uint8x16_t pixels = vld1q_u8(sources[row] + first + std::ptrdiff_t{3} * tap);
                multiply_add(sums[row], vqtbl1q_u8(pixels, by_colour), weights);
            }
        }
        // Four bytes at a step of three: the fourth is overwritten by the next pixel, or lies in the slack.
        const uint32x4_t bytes = vreinterpretq_u32_u8(round_to_bytes(sums));
        store4(targets[0] + std::ptrdiff_t{3} * x, vgetq_lane_u32(bytes, 0));
        store4(targets[1] + std::ptrdiff_t{3} * x, vgetq_lane_u32(bytes, 1));
        store4(targets[2] + std::ptrdiff_t{3} * x, vgetq_lane_u32(bytes, 2));
        store4(targets[3] + std::ptrdiff_t{3} * x, vgetq_lane_u32(bytes, 3));
    }
}

// Grey: a lane is a row.
void along_rows_grey(const AxisView& axis, const std::uint8_t* const* sources, std::uint8_t* const* targets) {
    static_assert(kRowsAtOnce == 4, "a lane each");
    for (int x = 0; x < axis.outputs; ++x) {
        const std::int32_t first = axis.start[x];
        const std::int8_t* digits = digits_of(axis, x);
        DigitSums sums = start(start_of(axis, x));
        for (int tap = 0; tap < axis.count[x]; tap += 4) {
            uint32x4_t pixels = vdupq_n_u32(load4(sources[0] + first + tap));
            pixels = vsetq_lane_u32(load4(sources[1] + first + tap), pixels, 1);
            pixels = vsetq_lane_u32(load4(sources[2] + first + tap), pixels, 2);
            pixels = vsetq_lane_u32(load4(sources[3] + first + tap), pixels, 3);
            multiply_add(sums, vreinterpretq_u8_u32(pixels), vld1q_s8(digits + std::ptrdiff_t{kDigitBytes} * tap));
        }
        const uint16x4_t words = vqshrun_n_s32(total(sums), 16);
        const uint8x8_t bytes = vqshrn_n_u16(vcombine_u16(words, words), kPrecisionBits - 16);
        targets[0][x] = vget_lane_u8(bytes, 0);
        targets[1][x] = vget_lane_u8(bytes, 1);
        targets[2][x] = vget_lane_u8(bytes, 2);
        targets[3][x] = vget_lane_u8(bytes, 3);
    }
}

void along_rows(const AxisView& axis, int channels, const std::uint8_t* const* sources,
                std::uint8_t* const* targets) {
    (channels == 3 ? along_rows_rgb : along_rows_grey)(axis, sources, targets);
}

// Four rows at a time: their bytes are interleaved, so that the four taps of a column lie side by side.
void down_rows(const AxisView& axis, int output, const std::uint8_t* const* rows, std::size_t bytes,
               std::uint8_t* target) {
    static_assert(kDownGroup % 4 == 0, "rows are read four at a time");
    const std::int8_t* digits = digits_of(axis, output);
    const int count = axis.count[output];
    for (std::size_t at = 0; at < bytes; at += 16) {
        DigitSums sums[4];
        for (DigitSums& four : sums) four = start(start_of(axis, output));
        for (int tap = 0; tap < count; tap += 4) {
            const int8x16_t weights = vld1q_s8(digits + std::ptrdiff_t{kDigitBytes} * tap);
            const uint8x16x2_t even = vzipq_u8(vld1q_u8(rows[tap] + at), vld1q_u8(rows[tap + 2] + at));
            const uint8x16x2_t odd = vzipq_u8(vld1q_u8(rows[tap + 1] + at), vld1q_u8(rows[tap + 3] + at));
            const uint8x16x2_t low = vzipq_u8(even.val[0], odd.val[0]);
            const uint8x16x2_t high = vzipq_u8(even.val[1], odd.val[1]);
            multiply_add(sums[0], low.val[0], weights);
            multiply_add(sums[1], low.val[1], weights);
            multiply_add(sums[2], high.val[0], weights);
            multiply_add(sums[3], high.val[1], weights);
        }
        const uint8x16_t result = round_to_bytes(sums);
        const std::size_t length = bytes - at < 16 ? bytes - at : 16;
        if (length == 16) {
            vst1q_u8(target + at, result);
        } else {
            std::uint8_t block[16];
            vst1q_u8(block, result);
            std::memcpy(target + at, block, length);
        }
    }
}

}  // namespace
}  // namespace vmeg

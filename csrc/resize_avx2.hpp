// The hot loops in AVX2; with AVX-512 VNNI the multiply and the add are one instruction.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "resize_exact.hpp"

namespace vmeg {
namespace {

// sums[i] + pixels[2i] * weights[2i] + pixels[2i + 1] * weights[2i + 1]
inline __m256i multiply_add(__m256i sums, __m256i pixels, __m256i weights) {
#if defined(__AVX512VNNI__)
    return _mm256_dpwssd_epi32(sums, pixels, weights);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pixels, weights));
#endif
}

inline __m128i load16(const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
inline __m256i load32(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

inline __m256i broadcast_pair(const std::int16_t* from) {
    std::int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return _mm256_set1_epi32(pair);
}

inline __m256i broadcast_four(const std::int16_t* from) {
    std::int64_t four;
    std::memcpy(&four, from, sizeof four);
    return _mm256_set1_epi64x(four);
}

inline void store4(std::uint8_t* to, int pixel) { std::memcpy(to, &pixel, sizeof pixel); }

// The low lanes summed with the high ones: a's in the low lane, b's in the high one.
inline __m256i fold(__m256i a, __m256i b) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

// Sums rounded to bytes, and which of them the coarse weights leave open.
struct Rounding {
    __m256i fraction_mask;
    __m256i band;
    __m128i shift;

    explicit Rounding(const AxisView& axis)
        : fraction_mask(_mm256_set1_epi32((1 << (kPrecisionBits - axis.shift)) - 1)),
          band(_mm256_set1_epi32(axis.band)),
          shift(_mm_cvtsi32_si128(kPrecisionBits - axis.shift)) {}

    [[nodiscard]] __m256i rounded(__m256i sums) const { return _mm256_sra_epi32(sums, shift); }
    [[nodiscard]] __m256i open(__m256i sums) const {
        return _mm256_cmpgt_epi32(band, _mm256_and_si256(sums, fraction_mask));
    }
};

inline unsigned lane_mask(__m256i flags) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(flags)));
}

constexpr int kBlock = 64;

// RGB: sixteen bytes hold four taps. They go to both lanes, and one shuffle makes pairs of taps of each colour:
// r0 r1 g0 g1 b0 b1 . . | r2 r3 g2 g3 b2 b3 . . in 16 bits each.
void rgb_block(const AxisView& axis, int begin, int end, const std::uint8_t* const* sources,
               std::uint8_t* const* targets) {
    const __m256i to_pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                              6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i to_weights = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, -1, -1, -1, -1,  //
                                                4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, -1, -1, -1, -1);
    const Rounding rounding(axis);
    // Open sums are settled after the block, so that this loop has no branch that a processor could guess wrong.
    unsigned open_flags[kBlock];
    int open_at[kBlock];
    int opened = 0;
    for (int x = begin; x < end; ++x) {
        const std::ptrdiff_t first = std::ptrdiff_t{3} * axis.start[x];
        const std::uint8_t* p0 = sources[0] + first;
        const std::uint8_t* p1 = sources[1] + first;
        const std::uint8_t* p2 = sources[2] + first;
        const std::uint8_t* p3 = sources[3] + first;
        const std::int16_t* weights = axis.coarse + x * axis.stride;
        __m256i s0 = _mm256_setzero_si256();
        __m256i s1 = s0;
        __m256i s2 = s0;
        __m256i s3 = s0;
        for (int tap = 0; tap < axis.count[x]; tap += 4) {
            const __m256i w = _mm256_shuffle_epi8(broadcast_four(weights + tap), to_weights);
            const auto pairs = [&](const std::uint8_t* from) {
                return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16(from + 3 * tap)), to_pairs);
            };
            s0 = multiply_add(s0, pairs(p0), w);
            s1 = multiply_add(s1, pairs(p1), w);
            s2 = multiply_add(s2, pairs(p2), w);
            s3 = multiply_add(s3, pairs(p3), w);
        }
        const __m256i bias = _mm256_set1_epi32(axis.bias[x]);
        const __m256i s01 = _mm256_add_epi32(fold(s0, s1), bias);
        const __m256i s23 = _mm256_add_epi32(fold(s2, s3), bias);
        const __m256i words = _mm256_packs_epi32(rounding.rounded(s01), rounding.rounded(s23));
        const __m256i bytes = _mm256_packus_epi16(words, words);
        const __m128i rows02 = _mm256_castsi256_si128(bytes);
        const __m128i rows13 = _mm256_extracti128_si256(bytes, 1);
        // Four bytes at a step of three: the fourth is overwritten by the next pixel, or lies in the slack.
        store4(targets[0] + 3 * x, _mm_cvtsi128_si32(rows02));
        store4(targets[1] + 3 * x, _mm_cvtsi128_si32(rows13));
        store4(targets[2] + 3 * x, _mm_extract_epi32(rows02, 1));
        store4(targets[3] + 3 * x, _mm_extract_epi32(rows13, 1));

        const unsigned open = lane_mask(rounding.open(s01)) | lane_mask(rounding.open(s23)) << 8;
        open_flags[opened] = open & 0x7777U;  // four rows of r, g, b and nothing
        open_at[opened] = x;
        opened += open != 0 ? 1 : 0;
    }
    for (int i = 0; i < opened; ++i) {
        const int x = open_at[i];
        const std::ptrdiff_t first = std::ptrdiff_t{3} * axis.start[x];
        int lane = 0;
        for (unsigned flags = open_flags[i]; flags != 0; flags >>= 1, ++lane) {
            if ((flags & 1U) == 0) continue;
            const int row = lane / 4;
            const int channel = lane % 4;
            targets[row][3 * x + channel] =
                exact_along(sources[row] + first + channel, 3, axis.exact + x * axis.stride, axis.count[x]);
        }
    }
}

void along_rows_rgb(const AxisView& axis, const std::uint8_t* const* sources, std::uint8_t* const* targets) {
    for (int begin = 0; begin < axis.outputs; begin += kBlock) {
        const int end = axis.outputs - begin < kBlock ? axis.outputs : begin + kBlock;
        rgb_block(axis, begin, end, sources, targets);
    }
}

// Grey: sixteen bytes are sixteen taps; the four rows' sums end side by side.
void along_rows_grey(const AxisView& axis, const std::uint8_t* const* sources, std::uint8_t* const* targets) {
    const Rounding rounding(axis);
    for (int x = 0; x < axis.outputs; ++x) {
        const std::int32_t first = axis.start[x];
        const std::int16_t* weights = axis.coarse + x * axis.stride;
        __m256i sums[kRowsAtOnce] = {};
        for (int tap = 0; tap < axis.count[x]; tap += 16) {
            const __m256i w = load32(weights + tap);
            for (int row = 0; row < kRowsAtOnce; ++row) {
                const __m256i pixels = _mm256_cvtepu8_epi16(load16(sources[row] + first + tap));
                sums[row] = multiply_add(sums[row], pixels, w);
            }
        }
        const __m256i halves =
            _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        const __m256i four = _mm256_add_epi32(fold(halves, halves), _mm256_set1_epi32(axis.bias[x]));
        const __m256i words = _mm256_packs_epi32(rounding.rounded(four), four);
        const int bytes = _mm_cvtsi128_si32(_mm256_castsi256_si128(_mm256_packus_epi16(words, words)));
        const unsigned open = lane_mask(rounding.open(four));
        for (int row = 0; row < kRowsAtOnce; ++row) {
            targets[row][x] =
                ((open >> row) & 1U) == 0
                    ? static_cast<std::uint8_t>(static_cast<unsigned>(bytes) >> (8 * row))
                    : exact_along(sources[row] + first, 1, axis.exact + x * axis.stride, axis.count[x]);
        }
    }
}

void along_rows(const AxisView& axis, int channels, const std::uint8_t* const* sources,
                std::uint8_t* const* targets) {
    (channels == 3 ? along_rows_rgb : along_rows_grey)(axis, sources, targets);
}

// Two rows at a time: their bytes are interleaved, so that a pair of taps of one column is one multiply-add. Unpacking
// and packing both stay within 128-bit lanes, so the bytes come out in the order in which they went in.
void down_rows(const AxisView& axis, int output, const std::uint8_t* const* rows, std::size_t bytes,
               std::uint8_t* target) {
    const Rounding rounding(axis);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i bias = _mm256_set1_epi32(axis.bias[output]);
    const std::int16_t* weights = axis.coarse + output * axis.stride;
    const int count = axis.count[output];
    for (std::size_t at = 0; at < bytes; at += 32) {
        __m256i s0 = bias;
        __m256i s1 = bias;
        __m256i s2 = bias;
        __m256i s3 = bias;
        for (int tap = 0; tap < count; tap += 2) {
            const __m256i w = broadcast_pair(weights + tap);
            const __m256i a = load32(rows[tap] + at);
            const __m256i b = load32(rows[tap + 1] + at);
            const __m256i low = _mm256_unpacklo_epi8(a, b);
            const __m256i high = _mm256_unpackhi_epi8(a, b);
            s0 = multiply_add(s0, _mm256_unpacklo_epi8(low, zero), w);
            s1 = multiply_add(s1, _mm256_unpackhi_epi8(low, zero), w);
            s2 = multiply_add(s2, _mm256_unpacklo_epi8(high, zero), w);
            s3 = multiply_add(s3, _mm256_unpackhi_epi8(high, zero), w);
        }
        const __m256i words01 = _mm256_packs_epi32(rounding.rounded(s0), rounding.rounded(s1));
        const __m256i words23 = _mm256_packs_epi32(rounding.rounded(s2), rounding.rounded(s3));
        const __m256i result = _mm256_packus_epi16(words01, words23);
        const std::size_t length = bytes - at < 32 ? bytes - at : 32;
        if (length == 32) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + at), result);
        } else {
            std::uint8_t block[32];
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(block), result);
            std::memcpy(target + at, block, length);
        }

        const __m256i open01 = _mm256_packs_epi32(rounding.open(s0), rounding.open(s1));
        const __m256i open23 = _mm256_packs_epi32(rounding.open(s2), rounding.open(s3));
        auto flags = static_cast<unsigned>(_mm256_movemask_epi8(_mm256_packs_epi16(open01, open23)));
        for (std::size_t i = 0; flags != 0 && i < length; ++i, flags >>= 1) {
            if ((flags & 1U) == 0) continue;
            target[at + i] = exact_down(rows, at + i, axis.exact + output * axis.stride, count);
        }
    }
}

}  // namespace
}  // namespace vmeg

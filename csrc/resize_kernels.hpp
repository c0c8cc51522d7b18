// The two hot loops of resize: a weighted sum along a row, and one down a column.
//
// Weights are integers scaled by 2^22, and a sum is rounded once: (2^21 + sum(pixel * exact)) >> 22, cut to 0..255.
// Vector code sums `coarse` weights first, which fit 16 bits, and adds a bound of what their rounding can change:
// with P = bias + sum(pixel * coarse), the exact result is P >> (22 - shift) unless the fraction of P lies below
// `band`. Only those few are summed again with the exact weights, so that every result is exact.
//
// Arm's dot products take bytes, so `digits` splits each exact weight instead: exact = d0 + 256 d1 + 65536 d2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmeg {

constexpr int kPrecisionBits = 22;
constexpr int kRowsAtOnce = 4;

// What the digits of one weight take. Those of four neighbours lie together: four d0, four d1, four d2, four zeros.
constexpr int kDigitBytes = 4;

// What a kernel may read beyond the last pixel of a window, and write beyond the last byte of a target row.
constexpr std::size_t kSlackBytes = 64;

// One axis of a resize, for plain pointers. A window is `count` neighbours from `start`; its weights lie at
// [output * stride], and those beyond `count` are zero. `centred` is 2^21 + 128 * sum(exact).
struct AxisView {
    const std::int32_t* start;
    const std::int32_t* count;
    const std::int32_t* exact;
    const std::int16_t* coarse;
    const std::int32_t* bias;
    const std::int8_t* digits;
    const std::int32_t* centred;
    std::int32_t outputs;
    std::int32_t stride;
    std::int32_t shift;
    std::int32_t band;
};

struct ResizeKernels {
    // Sums along four packed rows at once. Each source is readable up to where the axis was laid out for it, each
    // target holds outputs * channels bytes and slack. `channels` is 1 or 3.
    void (*along_rows)(const AxisView& axis, int channels, const std::uint8_t* const* sources,
                       std::uint8_t* const* targets);

    // Sums down the rows of one output's window: rows[0..count), and readable ones up to a whole kDownGroup. Rows have
    // slack; the target has none.
    void (*down_rows)(const AxisView& axis, int output, const std::uint8_t* const* rows, std::size_t bytes,
                      std::uint8_t* target);
};

// Weights of a window are laid out in whole groups of this many, so that a vector load never leaves them.
constexpr int along_group(int channels) { return channels == 3 ? 4 : 16; }
constexpr int kDownGroup = 4;
constexpr int whole_groups(int count, int group) { return (count + group - 1) / group * group; }

// A row of pixels must be readable this many pixels beyond a window's last group.
constexpr int along_overread(int channels) { return channels == 3 ? 2 : 0; }

#define VMEG_DECLARE(isa) \
    namespace isa {       \
    extern const ResizeKernels resize_kernels; \
    }
VMEG_DECLARE(baseline)
VMEG_DECLARE(avx2)
VMEG_DECLARE(avx512)
VMEG_DECLARE(neon)
VMEG_DECLARE(neon_dotprod)
VMEG_DECLARE(neon_i8mm)
#undef VMEG_DECLARE

}  // namespace vmeg

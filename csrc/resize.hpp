// Crop and resize of 8-bit frames of any strides, bit for bit as Pillow does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "resize_axis.hpp"
#include "resize_kernels.hpp"

namespace vmeg {

// The pixels to resize: `data` is the crop's top left sample, strides are bytes and may be negative.
struct FrameView {
    const std::uint8_t* data;
    std::ptrdiff_t row_stride;
    std::ptrdiff_t pixel_stride;
    std::ptrdiff_t channel_stride;
};

enum class Method { nearest, bilinear, bicubic };

// Everything that depends on the geometry alone. Immutable once made: threads may share one.
class Resizer {
public:
    // `channels` is that of the frames, 1 or 3. Every size is at least 1.
    Resizer(int in_width, int in_height, int channels, int out_width, int out_height, Method method,
            const ResizeKernels& kernels);

    // Writes out_height * out_width * 3 bytes; a grey frame is repeated to three channels.
    void run(const FrameView& frame, std::uint8_t* out) const;

private:
    void run_nearest(const FrameView& frame, std::uint8_t* out) const;
    void run_rows_first(const FrameView& frame, std::uint8_t* out) const;
    void run_columns_first(const FrameView& frame, std::uint8_t* out) const;
    [[nodiscard]] bool columns_first() const;
    [[nodiscard]] bool packed(const FrameView& frame) const;
    void pack_row(const FrameView& frame, int row, std::uint8_t* target) const;
    void emit(const std::uint8_t* samples, int row, std::uint8_t* out) const;

    int in_width_, in_height_, channels_, out_width_, out_height_;
    Method method_;
    const ResizeKernels& kernels_;
    std::vector<int> nearest_x_, nearest_y_;
    std::unique_ptr<Axis> along_, down_;  // absent where that size does not change
};

}  // namespace vmeg

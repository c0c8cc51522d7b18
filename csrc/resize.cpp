// Walks the frame once: rows are resized into a short ring, and each output row is summed from it at once.
#include "resize.hpp"

#include <algorithm>
#include <cstring>

namespace vmeg {
namespace {

// The input that each output takes. The position is accumulated, not multiplied, because Pillow's is.
std::vector<int> nearest_inputs(int inputs, int outputs) {
    const double step = static_cast<double>(inputs) / outputs;
    std::vector<int> found;
    found.reserve(static_cast<std::size_t>(outputs));
    double position = step * 0.5;
    for (int output = 0; output < outputs; ++output) {
        found.push_back(static_cast<int>(position));
        position += step;
    }
    return found;
}

// Memory that a thread keeps between calls, so that a stream of equal frames allocates nothing.
std::uint8_t* scratch(std::size_t bytes) {
    static thread_local std::vector<std::uint8_t> memory;
    if (memory.size() < bytes) memory.resize(bytes);
    return memory.data();
}

const std::uint8_t** row_pointers(std::size_t count) {
    static thread_local std::vector<const std::uint8_t*> pointers;
    if (pointers.size() < count) pointers.resize(count);
    return pointers.data();
}

// The last `rows` rows of a picture that is walked from top to bottom, each with slack behind it.
struct Ring {
    std::uint8_t* memory;
    std::size_t row_bytes;
    std::size_t rows;

    [[nodiscard]] std::uint8_t* at(int row) const { return memory + static_cast<std::size_t>(row) % rows * row_bytes; }

    // Pointers to `count` rows from `first`, and to the last of them again up to the whole group that down_rows reads.
    [[nodiscard]] const std::uint8_t* const* window(int first, int count) const {
        const int readable = whole_groups(count, kDownGroup);
        const std::uint8_t** pointers = row_pointers(static_cast<std::size_t>(readable));
        for (int i = 0; i < readable; ++i) pointers[i] = at(first + std::min(i, count - 1));
        return pointers;
    }
};

}  // namespace

Resizer::Resizer(int in_width, int in_height, int channels, int out_width, int out_height, Method method,
                 const ResizeKernels& kernels)
    : in_width_(in_width),
      in_height_(in_height),
      channels_(channels),
      out_width_(out_width),
      out_height_(out_height),
      method_(method),
      kernels_(kernels) {
    if (method == Method::nearest) {
        nearest_x_ = nearest_inputs(in_width, out_width);
        nearest_y_ = nearest_inputs(in_height, out_height);
        return;
    }
    const Filter filter = method == Method::bilinear ? Filter::bilinear : Filter::bicubic;
    if (in_width != out_width) {
        along_ = std::make_unique<Axis>(in_width, out_width, filter, along_group(channels), along_overread(channels));
    }
    if (in_height != out_height) down_ = std::make_unique<Axis>(in_height, out_height, filter, kDownGroup, -1);
}

void Resizer::run(const FrameView& frame, std::uint8_t* out) const {
    if (method_ == Method::nearest) return run_nearest(frame, out);
    return columns_first() ? run_columns_first(frame, out) : run_rows_first(frame, out);
}

// The order decides how the result rounds. Pillow 13 goes down the columns first where that saves it work; up to
// Pillow 12 rows always came first.
bool Resizer::columns_first() const {
    const int fewer_rows = in_height_ - out_height_;
    const int fewer_columns = in_width_ - out_width_;
    return along_ && down_ && fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
}

void Resizer::run_nearest(const FrameView& frame, std::uint8_t* out) const {
    const std::size_t row_bytes = std::size_t{3} * static_cast<std::size_t>(out_width_);
    const std::ptrdiff_t green = channels_ == 3 ? frame.channel_stride : 0;
    const std::ptrdiff_t blue = 2 * green;
    // Four-byte copies are twice as fast; the fourth byte must exist, so the last input column is not copied so.
    const bool adjacent = channels_ == 3 && frame.channel_stride == 1 && frame.pixel_stride == 3;
    int wide = 0;
    while (adjacent && wide + 1 < out_width_ && nearest_x_[static_cast<std::size_t>(wide)] + 1 < in_width_) ++wide;
    for (int y = 0; y < out_height_; ++y) {
        std::uint8_t* target = out + static_cast<std::size_t>(y) * row_bytes;
        const int row = nearest_y_[static_cast<std::size_t>(y)];
        if (y > 0 && row == nearest_y_[static_cast<std::size_t>(y) - 1]) {
            std::memcpy(target, target - row_bytes, row_bytes);
            continue;
        }
        const std::uint8_t* source = frame.data + row * frame.row_stride;
        const int* columns = nearest_x_.data();
        for (int x = 0; x < wide; ++x) std::memcpy(target + 3 * x, source + std::ptrdiff_t{3} * columns[x], 4);
        for (int x = wide; x < out_width_; ++x) {
            const std::uint8_t* pixel = source + columns[x] * frame.pixel_stride;
            target[3 * x] = pixel[0];
            target[3 * x + 1] = pixel[green];
            target[3 * x + 2] = pixel[blue];
        }
    }
}

bool Resizer::packed(const FrameView& frame) const {
    return frame.pixel_stride == channels_ && (channels_ == 1 || frame.channel_stride == 1);
}

void Resizer::pack_row(const FrameView& frame, int row, std::uint8_t* target) const {
    const std::uint8_t* source = frame.data + row * frame.row_stride;
    if (packed(frame)) {
        std::memcpy(target, source, static_cast<std::size_t>(in_width_) * static_cast<std::size_t>(channels_));
        return;
    }
    for (int x = 0; x < in_width_; ++x, source += frame.pixel_stride) {
        for (int channel = 0; channel < channels_; ++channel) *target++ = source[channel * frame.channel_stride];
    }
}

// Writes one finished row of samples to the output; grey is repeated.
void Resizer::emit(const std::uint8_t* samples, int row, std::uint8_t* out) const {
    const auto width = static_cast<std::size_t>(out_width_);
    std::uint8_t* target = out + static_cast<std::size_t>(row) * width * 3;
    if (channels_ == 3) {
        std::memcpy(target, samples, width * 3);
        return;
    }
    for (std::size_t x = 0; x < width; ++x) {
        target[3 * x] = target[3 * x + 1] = target[3 * x + 2] = samples[x];
    }
}

// Four input rows at a time are resized into the ring; each output row is summed from it as soon as it can be.
void Resizer::run_rows_first(const FrameView& frame, std::uint8_t* out) const {
    const std::size_t samples = static_cast<std::size_t>(out_width_) * static_cast<std::size_t>(channels_);
    const std::size_t staged_bytes =
        static_cast<std::size_t>(in_width_) * static_cast<std::size_t>(channels_) + kSlackBytes;
    const std::size_t ring_rows = static_cast<std::size_t>((down_ ? down_->longest() : 1) + kRowsAtOnce);
    const std::size_t ring_bytes = ring_rows * (samples + kSlackBytes);
    std::uint8_t* memory = scratch(ring_bytes + kRowsAtOnce * staged_bytes + samples);
    const Ring ring{memory, samples + kSlackBytes, ring_rows};
    std::uint8_t* staging = memory + ring_bytes;
    std::uint8_t* sums = staging + kRowsAtOnce * staged_bytes;
    const bool stage = along_ && (along_->needs_slack() || !packed(frame));

    const auto fill_ring = [&](int first_row) {
        const std::uint8_t* sources[kRowsAtOnce];
        std::uint8_t* targets[kRowsAtOnce];
        for (int i = 0; i < kRowsAtOnce; ++i) {
            const int row = std::min(first_row + i, in_height_ - 1);  // past the end the last row is done again
            targets[i] = ring.at(row);
            sources[i] = frame.data + row * frame.row_stride;
            if (!along_) pack_row(frame, row, targets[i]);
            if (stage) {
                std::uint8_t* copy = staging + static_cast<std::size_t>(i) * staged_bytes;
                pack_row(frame, row, copy);
                sources[i] = copy;
            }
        }
        if (along_) kernels_.along_rows(along_->view(), channels_, sources, targets);
    };

    int ready = 0;
    for (int y = 0; y < out_height_; ++y) {
        const int first = down_ ? down_->first(y) : y;
        const int count = down_ ? down_->count(y) : 1;
        for (; ready < first + count; ready += kRowsAtOnce) fill_ring(ready);
        if (!down_) {
            emit(ring.at(y), y, out);
        } else if (channels_ == 3) {
            kernels_.down_rows(down_->view(), y, ring.window(first, count), samples,
                               out + static_cast<std::size_t>(y) * samples);
        } else {
            kernels_.down_rows(down_->view(), y, ring.window(first, count), samples, sums);
            emit(sums, y, out);
        }
    }
}

// The ring holds input rows; four sums of them at a time are resized into the output.
void Resizer::run_columns_first(const FrameView& frame, std::uint8_t* out) const {
    const std::size_t in_samples = static_cast<std::size_t>(in_width_) * static_cast<std::size_t>(channels_);
    const std::size_t out_samples = static_cast<std::size_t>(out_width_) * static_cast<std::size_t>(channels_);
    const auto ring_rows = static_cast<std::size_t>(down_->longest());
    const std::size_t in_bytes = in_samples + kSlackBytes;
    const std::size_t out_bytes = out_samples + kSlackBytes;
    std::uint8_t* memory = scratch((ring_rows + kRowsAtOnce) * in_bytes + kRowsAtOnce * out_bytes);
    const Ring ring{memory, in_bytes, ring_rows};
    const std::uint8_t* sources[kRowsAtOnce];
    std::uint8_t* targets[kRowsAtOnce];

    int ready = 0;
    for (int y = 0; y < out_height_; y += kRowsAtOnce) {
        for (int i = 0; i < kRowsAtOnce; ++i) {
            const int row = std::min(y + i, out_height_ - 1);
            const int first = down_->first(row);
            const int count = down_->count(row);
            for (; ready < first + count; ++ready) pack_row(frame, ready, ring.at(ready));
            std::uint8_t* sums = memory + (ring_rows + static_cast<std::size_t>(i)) * in_bytes;
            kernels_.down_rows(down_->view(), row, ring.window(first, count), in_samples, sums);
            sources[i] = sums;
            targets[i] = memory + (ring_rows + kRowsAtOnce) * in_bytes + static_cast<std::size_t>(i) * out_bytes;
        }
        kernels_.along_rows(along_->view(), channels_, sources, targets);
        for (int i = 0; i < std::min(kRowsAtOnce, out_height_ - y); ++i) emit(targets[i], y + i, out);
    }
}

}  // namespace vmeg

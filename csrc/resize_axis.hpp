// The weights of one axis of a resize: which inputs each output sums, and how strongly.
#pragma once

#include <cstdint>
#include <vector>

#include "resize_kernels.hpp"

namespace vmeg {

enum class Filter { bilinear, bicubic };

class Axis {
public:
    // Windows are laid out in whole groups of `group` taps. Where `readable_extra` is not negative, a window near the
    // end is moved left, with zero weights in front, so that a kernel that reads its last whole group and
    // `readable_extra` inputs more stays within the input. Where the input is too short, `needs_slack` says so.
    Axis(int inputs, int outputs, Filter filter, int group, int readable_extra);

    [[nodiscard]] AxisView view() const;
    [[nodiscard]] bool needs_slack() const { return needs_slack_; }
    [[nodiscard]] int longest() const { return longest_; }
    [[nodiscard]] int first(int output) const { return start_[static_cast<std::size_t>(output)]; }
    [[nodiscard]] int count(int output) const { return count_[static_cast<std::size_t>(output)]; }

private:
    void make_coarse();
    void make_digits();

    std::vector<std::int32_t> start_, count_, exact_, bias_, centred_;
    std::vector<std::int16_t> coarse_;
    std::vector<std::int8_t> digits_;
    int outputs_, stride_ = 0, shift_ = 0, band_ = 0, longest_ = 0;
    bool needs_slack_ = false;
};

}  // namespace vmeg

// Resizes one strip of a 1920x1080 picture to a 224-pixel wide one: count ISA METHOD CHANNELS TIMES
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include "dispatch.hpp"
#include "resize.hpp"
int main(int n, char** v) {
    if (n != 5) return 2;
    const int channels = std::atoi(v[3]);
    const vmeg::Method method = std::strcmp(v[2], "bicubic") == 0 ? vmeg::Method::bicubic : vmeg::Method::bilinear;
    const int w = 1920, h = 54;
    std::vector<std::uint8_t> in(std::size_t(w) * h * channels), out(224 * 11 * 3);
    unsigned seed = 1;
    for (auto& p : in) p = std::uint8_t((seed = seed * 1664525u + 1013904223u) >> 24);
    const vmeg::Resizer resizer(w, h, channels, 224, 11, method, *vmeg::kernel_set(v[1]).resize);
    const vmeg::FrameView frame{in.data(), w * channels, channels, 1};
    for (int i = std::atoi(v[4]); i > 0; --i) resizer.run(frame, out.data());
    unsigned sum = 0; for (auto p : out) sum = sum * 31 + p;
    std::printf("%u\n", sum);
}

// Holds every kernel set that this machine can run against the answers of the NumPy twin, without Python.
//
//     kernels_test CASES [--other-machine]
//
// CASES is what csrc/tests/cases.py wrote: 32-bit little-endian integers, and arrays of raw little-endian values behind
// their number of bytes. The processor's features must be those that the file names, unless it was written on another
// machine. Prints one line a kernel set. Exit code 0: all agree; 1: something differs; 2: the file cannot be used.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu.hpp"
#include "dispatch.hpp"
#include "eigencam.hpp"
#include "resize.hpp"

namespace {

using Bytes = std::vector<char>;

class Reader {
public:
    explicit Reader(const char* path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) throw std::runtime_error(std::string(path) + ": cannot be read");
        data_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }

    std::int32_t number() {
        std::int32_t value = 0;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }

    template <typename T>
    std::vector<T> array() {
        const auto bytes = static_cast<std::size_t>(number());
        std::vector<T> values(bytes / sizeof(T));
        const char* from = take(bytes);
        if (bytes > 0) std::memcpy(values.data(), from, bytes);
        return values;
    }

    std::string text() {
        const std::vector<char> letters = array<char>();
        return {letters.begin(), letters.end()};
    }

    [[nodiscard]] bool done() const { return at_ == data_.size(); }

private:
    const char* take(std::size_t bytes) {
        if (bytes > data_.size() - at_) throw std::runtime_error("the cases are cut short");
        const char* from = data_.data() + at_;
        at_ += bytes;
        return from;
    }

    Bytes data_;
    std::size_t at_ = 0;
};

double largest_difference(const std::vector<float>& found, const std::vector<float>& expected) {
    double largest = 0;
    for (std::size_t at = 0; at < expected.size(); ++at) {
        const double difference = std::abs(static_cast<double>(found[at]) - static_cast<double>(expected[at]));
        if (!(difference <= largest)) largest = difference;  // NaN counts
    }
    return largest;
}

// One case of any kind: what it is called, and how far a kernel set is from its answer; more than `allowed` is wrong.
struct Outcome {
    double difference;
    double allowed;
};

struct ResizeCase {
    std::int32_t width, height, channels, offset, row_stride, pixel_stride, channel_stride, out_width, out_height, method;
    std::vector<std::uint8_t> frame, expected;

    explicit ResizeCase(Reader& in)
        : width(in.number()), height(in.number()), channels(in.number()), offset(in.number()), row_stride(in.number()),
          pixel_stride(in.number()), channel_stride(in.number()), out_width(in.number()), out_height(in.number()),
          method(in.number()), frame(in.array<std::uint8_t>()), expected(in.array<std::uint8_t>()) {}

    [[nodiscard]] Outcome run(const vmeg::KernelSet& set) const {
        const vmeg::FrameView view{frame.data() + offset, row_stride, pixel_stride, channel_stride};
        const vmeg::Resizer resizer(width, height, channels, out_width, out_height, static_cast<vmeg::Method>(method),
                                    *set.resize);
        std::vector<std::uint8_t> out(expected.size());
        resizer.run(view, out.data());
        return {out == expected ? 0.0 : 1.0, 0.0};
    }
};

struct CamCase {
    std::int32_t rows, columns, status;
    std::vector<float> activations, direction, map, vector;

    explicit CamCase(Reader& in)
        : rows(in.number()), columns(in.number()), status(in.number()), activations(in.array<float>()),
          direction(in.array<float>()), map(in.array<float>()), vector(in.array<float>()) {}

    [[nodiscard]] Outcome run(const vmeg::KernelSet& set) const {
        const auto width = static_cast<std::ptrdiff_t>(sizeof(float));
        const vmeg::ActivationsView view{reinterpret_cast<const char*>(activations.data()),
                                         static_cast<std::size_t>(rows), static_cast<std::size_t>(columns),
                                         columns * width, width};
        std::vector<float> found_map(static_cast<std::size_t>(rows));
        std::vector<float> found_vector(static_cast<std::size_t>(columns));
        const vmeg::CamStatus found = vmeg::eigencam(view, direction.empty() ? nullptr : direction.data(),
                                                     *set.eigencam, found_map.data(), found_vector.data());
        if (static_cast<std::int32_t>(found) != status) return {1.0, 0.0};
        if (found != vmeg::CamStatus::ok) return {0.0, 0.0};
        return {std::max(largest_difference(found_map, map), largest_difference(found_vector, vector)), 1e-5};
    }
};

struct ProjectCase {
    std::int32_t rows, columns, count;
    std::vector<float> activations, axes, expected;
    double squares;

    explicit ProjectCase(Reader& in)
        : rows(in.number()), columns(in.number()), count(in.number()), activations(in.array<float>()),
          axes(in.array<float>()), expected(in.array<float>()), squares(in.array<double>().at(0)) {}

    [[nodiscard]] Outcome run(const vmeg::KernelSet& set) const {
        std::vector<float> out(expected.size(), std::nanf(""));
        const double found = set.project->project(activations.data(), static_cast<std::size_t>(rows),
                                                  static_cast<std::size_t>(columns), axes.data(),
                                                  static_cast<std::size_t>(count), out.data());
        const double off = std::abs(found / squares - 1);
        return {std::max(largest_difference(out, expected) / std::sqrt(columns), off), 1e-5};
    }
};

bool features_agree(const std::string& expected) {
    std::string found;
    for (const vmeg::CpuFeature& feature : vmeg::cpu_features().items) {
        if (feature.present) found += (found.empty() ? "" : ",") + std::string(feature.name);
    }
    std::printf("cpu: %s\n", found.c_str());
    if (found == expected) return true;
    std::printf("cpu: FAILED, the cases were written where it is %s\n", expected.c_str());
    return false;
}

struct Tally {
    int cases = 0;
    int wrong = 0;
    double nearest_miss = 0;  // the largest share of what is allowed

    void add(const char* kind, int number, const vmeg::KernelSet& set, const Outcome& outcome) {
        ++cases;
        if (outcome.allowed > 0) nearest_miss = std::max(nearest_miss, outcome.difference / outcome.allowed);
        if (outcome.difference <= outcome.allowed) return;
        ++wrong;
        std::printf("%s: FAILED %s, case %d: off by %g, and %g is allowed\n", set.name, kind, number, outcome.difference,
                    outcome.allowed);
    }
};

int checked(const char* path, bool other_machine) {
    Reader in(path);
    if (in.text() != "vmeg kernels 1") throw std::runtime_error("not a file of cases");
    const std::string features = in.text();
    std::vector<ResizeCase> resizes;
    std::vector<CamCase> cams;
    std::vector<ProjectCase> projections;
    for (std::int32_t left = in.number(); left > 0; --left) resizes.emplace_back(in);
    for (std::int32_t left = in.number(); left > 0; --left) cams.emplace_back(in);
    for (std::int32_t left = in.number(); left > 0; --left) projections.emplace_back(in);
    if (!in.done() || resizes.empty() || cams.empty() || projections.empty()) {
        throw std::runtime_error("the cases are not whole");
    }
    bool good = features_agree(features) || other_machine;
    for (const vmeg::KernelSet& set : vmeg::kernel_sets()) {
        if (!set.runnable) {
            std::printf("%s: this machine cannot run it\n", set.name);
            continue;
        }
        Tally tally;
        int number = 0;
        for (const ResizeCase& one : resizes) tally.add("resize", number++, set, one.run(set));
        number = 0;
        for (const CamCase& one : cams) tally.add("eigencam", number++, set, one.run(set));
        number = 0;
        for (const ProjectCase& one : projections) tally.add("project", number++, set, one.run(set));
        std::printf("%s: %d cases, %d wrong; resize bit for bit, the rest within %.0f %% of what is allowed\n", set.name,
                    tally.cases, tally.wrong, 100 * tally.nearest_miss);
        good = good && tally.wrong == 0;
    }
    return good ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: kernels_test CASES [--other-machine]\n");
        return 2;
    }
    try {
        return checked(arguments[1], count > 2 && std::strcmp(arguments[2], "--other-machine") == 0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "kernels_test: %s\n", error.what());
        return 2;
    }
}

// What the processor and the operating system together allow.
#pragma once

namespace vmeg {

// One fact about the machine, by the name that `vmeg-edge info` prints.
struct CpuFeature {
    const char* name;
    bool present;
};

// The features that a kernel could ask for, in a fixed order. A vector extension counts as present only where the
// operating system also saves its registers.
struct CpuFeatures {
    static constexpr int kCount = 16;
    CpuFeature items[kCount];

    [[nodiscard]] bool has(const char* name) const;
};

// Asked once; the answer does not change while a process runs.
const CpuFeatures& cpu_features();

}  // namespace vmeg

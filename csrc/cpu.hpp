// What the processor and the operating system together allow.
#pragma once

#include <vector>

namespace vmeg {

// One fact about the machine, by the name that `vmeg-edge info` prints.
struct CpuFeature {
    const char* name;
    bool present;
};

// The features of this kind of processor that a kernel or an inference engine could ask for. A vector extension counts as present only where the
// operating system also saves its registers.
struct CpuFeatures {
    std::vector<CpuFeature> items;

    [[nodiscard]] bool has(const char* name) const;
};

// Asked once; the answer does not change while a process runs.
const CpuFeatures& cpu_features();

}  // namespace vmeg

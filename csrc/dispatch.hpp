// The builds of the hot kernels, one per instruction set, and which of them this machine can run.
#pragma once

#include <string>
#include <vector>

#include "eigencam_kernels.hpp"
#include "project_kernels.hpp"
#include "resize_kernels.hpp"

namespace vmeg {

struct KernelSet {
    const char* name;
    const ResizeKernels* resize;
    const EigenCamKernels* eigencam;
    const ProjectKernels* project;
    bool runnable;
};

// Every set in this build, slowest first; the last runnable one is the default.
const std::vector<KernelSet>& kernel_sets();

// The set of that name. Throws std::invalid_argument where this build or this machine lacks it.
const KernelSet& kernel_set(const std::string& name);

}  // namespace vmeg

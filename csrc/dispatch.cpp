// One table row per instruction set that CMakeLists.txt compiled the hot files for.
#include "dispatch.hpp"

#include <stdexcept>

#include "cpu.hpp"

namespace vmeg {

const std::vector<KernelSet>& kernel_sets() {
    static const std::vector<KernelSet> sets = [] {
        const CpuFeatures& cpu = cpu_features();
        std::vector<KernelSet> found;
#if defined(VMEG_HAS_neon)
        found.push_back({"neon", &neon::resize_kernels, &neon::eigencam_kernels, &neon::project_kernels, cpu.has("neon")});
#endif
#if defined(VMEG_HAS_neon_dotprod)
        // Only resize sums bytes; the other kernels are float, where these instructions change nothing.
        found.push_back({"neon_dotprod", &neon_dotprod::resize_kernels, &neon::eigencam_kernels, &neon::project_kernels,
                         cpu.has("dotprod")});
        found.push_back({"neon_i8mm", &neon_i8mm::resize_kernels, &neon::eigencam_kernels, &neon::project_kernels,
                         cpu.has("dotprod") && cpu.has("i8mm")});
#endif
#if defined(VMEG_HAS_baseline)
        found.push_back({"baseline", &baseline::resize_kernels, &baseline::eigencam_kernels, &baseline::project_kernels,
                         true});
#endif
#if defined(VMEG_HAS_avx2)
        const bool has_avx2 = cpu.has("avx") && cpu.has("avx2") && cpu.has("fma");
        found.push_back({"avx2", &avx2::resize_kernels, &avx2::eigencam_kernels, &avx2::project_kernels, has_avx2});
#endif
#if defined(VMEG_HAS_avx512)
        const bool has_avx512 = cpu.has("avx512f") && cpu.has("avx512dq") && cpu.has("avx512bw") &&
                            cpu.has("avx512vl") && cpu.has("avx512vnni") && cpu.has("fma");
        found.push_back({"avx512", &avx512::resize_kernels, &avx512::eigencam_kernels, &avx512::project_kernels,
                         has_avx512});
#endif
        return found;
    }();
    return sets;
}

const KernelSet& kernel_set(const std::string& name) {
    for (const KernelSet& set : kernel_sets()) {
        if (name != set.name) continue;
        if (!set.runnable) throw std::invalid_argument("this machine cannot run " + name);
        return set;
    }
    throw std::invalid_argument("this build has no kernels for " + name);
}

}  // namespace vmeg

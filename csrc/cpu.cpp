// Reads cpuid and the extended control register (Intel SDM volume 1, 14.3 and 15.2). Arm64 always has NEON; its other
// extensions are asked of the operating system, since a program may not read the identification registers everywhere.
#include "cpu.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#define VMEG_X86_64 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define VMEG_ARM64 1
#if defined(_WIN32)
#include <windows.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace vmeg {
namespace {

#if defined(VMEG_X86_64)

struct Registers {
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    Registers found;
#if defined(_MSC_VER)
    int values[4] = {};
    __cpuid(values, 0);
    if (static_cast<std::uint32_t>(values[0]) < leaf) return found;
    __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
    found.eax = static_cast<std::uint32_t>(values[0]);
    found.ebx = static_cast<std::uint32_t>(values[1]);
    found.ecx = static_cast<std::uint32_t>(values[2]);
    found.edx = static_cast<std::uint32_t>(values[3]);
#else
    __get_cpuid_count(leaf, subleaf, &found.eax, &found.ebx, &found.ecx, &found.edx);
#endif
    return found;
}

// Which register files the operating system saves; zero where it saves none through xsave.
std::uint64_t saved_state(const Registers& leaf1) {
    const bool os_uses_xsave = ((leaf1.ecx >> 27) & 1U) != 0;
    if (!os_uses_xsave) return 0;
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}

CpuFeatures detect() {
    const Registers leaf1 = cpuid(1, 0);
    const Registers leaf7 = cpuid(7, 0);
    const Registers leaf7_1 = leaf7.eax >= 1 ? cpuid(7, 1) : Registers{};
    const std::uint64_t saved = saved_state(leaf1);
    constexpr std::uint64_t kYmm = 0x06;  // xmm and the upper halves of ymm
    constexpr std::uint64_t kZmm = 0xE6;  // those, the mask registers and both parts of zmm
    constexpr std::uint64_t kTiles = 0x60000;  // the tile configuration and the tiles' data
    const bool ymm = (saved & kYmm) == kYmm;
    const bool zmm = (saved & kZmm) == kZmm;
    const bool tiles = (saved & kTiles) == kTiles;
    const auto bit = [](std::uint32_t word, int at) { return ((word >> at) & 1U) != 0; };
    return {{
        {"sse4_2", bit(leaf1.ecx, 20)},
        {"avx", ymm && bit(leaf1.ecx, 28)},
        {"avx2", ymm && bit(leaf7.ebx, 5)},
        {"fma", ymm && bit(leaf1.ecx, 12)},
        {"avx512f", zmm && bit(leaf7.ebx, 16)},
        {"avx512dq", zmm && bit(leaf7.ebx, 17)},
        {"avx512bw", zmm && bit(leaf7.ebx, 30)},
        {"avx512vl", zmm && bit(leaf7.ebx, 31)},
        {"avx512vnni", zmm && bit(leaf7.ecx, 11)},
        {"avx512_bf16", zmm && bit(leaf7_1.eax, 5)},
        {"avx_vnni", ymm && bit(leaf7_1.eax, 4)},
        {"avx_vnni_int8", ymm && bit(leaf7_1.edx, 4)},
        {"amx_tile", tiles && bit(leaf7.edx, 24)},
        {"amx_int8", tiles && bit(leaf7.edx, 25)},
        {"amx_bf16", tiles && bit(leaf7.edx, 22)},
    }};
}

#else

struct ArmFeatures {
    bool neon = false, dotprod = false, i8mm = false, bf16 = false;
};

#if defined(VMEG_ARM64) && defined(_WIN32)

// The numbers are winnt.h's PF_ARM_V82_DP, PF_ARM_V82_I8MM and PF_ARM_V86_BF16; older kits lack the names.
ArmFeatures arm_features() {
    const auto present = [](unsigned long feature) { return IsProcessorFeaturePresent(feature) != 0; };
    return {true, present(43), present(66), present(68)};
}

#elif defined(VMEG_ARM64) && defined(__APPLE__)

ArmFeatures arm_features() {
    const auto present = [](const char* name) {
        int value = 0;
        std::size_t size = sizeof value;
        return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
    };
    return {true, present("hw.optional.arm.FEAT_DotProd"), present("hw.optional.arm.FEAT_I8MM"),
            present("hw.optional.arm.FEAT_BF16")};
}

#elif defined(VMEG_ARM64) && defined(__linux__)

// The bits are the kernel's HWCAP_ASIMDDP, HWCAP2_I8MM and HWCAP2_BF16; older C libraries lack the names.
ArmFeatures arm_features() {
    const unsigned long first = getauxval(AT_HWCAP);
    const unsigned long second = getauxval(AT_HWCAP2);
    const auto bit = [](unsigned long word, int at) { return ((word >> at) & 1UL) != 0; };
    return {true, bit(first, 20), bit(second, 13), bit(second, 14)};
}

#elif defined(VMEG_ARM64)

ArmFeatures arm_features() { return {true, false, false, false}; }

#else

ArmFeatures arm_features() { return {}; }

#endif

CpuFeatures detect() {
    const ArmFeatures arm = arm_features();
    return {{
        {"neon", arm.neon},
        {"dotprod", arm.dotprod},
        {"i8mm", arm.i8mm},
        {"bf16", arm.bf16},
    }};
}

#endif

}  // namespace

bool CpuFeatures::has(const char* name) const {
    for (const CpuFeature& feature : items) {
        if (std::strcmp(feature.name, name) == 0) return feature.present;
    }
    return false;
}

const CpuFeatures& cpu_features() {
    static const CpuFeatures found = detect();
    return found;
}

}  // namespace vmeg

// isas_built(), isas_available() and cpu_features().
#include "register.hpp"

#include "cpu.hpp"
#include "dispatch.hpp"

namespace py = pybind11;

namespace vmeg {

void register_cpu(py::module_& module) {
    module.def(
        "isas_built",
        [] {
            py::list names;
            for (const KernelSet& set : kernel_sets()) names.append(set.name);
            return names;
        },
        "Instruction sets that this build holds kernels for, slowest first.");
    module.def(
        "isas_available",
        [] {
            py::list names;
            for (const KernelSet& set : kernel_sets()) {
                if (set.runnable) names.append(set.name);
            }
            return names;
        },
        "Those of them that this machine runs, slowest first.");
    module.def(
        "cpu_features",
        [] {
            py::list names;
            for (const CpuFeature& feature : cpu_features().items) {
                if (feature.present) names.append(feature.name);
            }
            return names;
        },
        "Vector extensions that the processor has and the operating system saves.");
}

}  // namespace vmeg

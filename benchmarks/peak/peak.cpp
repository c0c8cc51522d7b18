// How many multiply-adds a second this processor does when nothing holds it up: registers alone, no memory.
//
// Every operand is one, so a kernel's result is the number of multiply-adds that it did: the count is the check.
// Prints JSON. Usage: peak THREADS REPETITIONS MILLISECONDS

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The compiler must believe that the value changed, so it can neither hoist the step nor merge equal accumulators.
#if defined(__x86_64__)
#define KEEP(x) asm volatile("" : "+v"(x))
#elif defined(__aarch64__)
#define KEEP(x) asm volatile("" : "+w"(x))
#endif

namespace {

constexpr int kSteps = 1024;  // a round: a float32 lane still counts exactly

template <typename Lane, typename Vector>
double sum(const Vector& vector) {
  Lane lanes[sizeof(Vector) / sizeof(Lane)];
  __builtin_memcpy(lanes, &vector, sizeof vector);
  double total = 0;
  for (Lane lane : lanes) total += lane;
  return total;
}

// CHAINS independent accumulators: more than latency times issue width, fewer than the registers.
#define KERNEL(NAME, TARGET, VECTOR, LANE, CHAINS, ZERO, OPERAND, ONES, STEP) \
  TARGET double NAME(long rounds) {                                           \
    double total = 0;                                                         \
    OPERAND a = ONES, b = ONES;                                               \
    for (long round = 0; round < rounds; ++round) {                           \
      VECTOR sums[CHAINS];                                                    \
      _Pragma("GCC unroll 32") for (VECTOR & s : sums) s = ZERO;              \
      for (int step = 0; step < kSteps; ++step) {                             \
        _Pragma("GCC unroll 32") for (VECTOR & s : sums) {                    \
          KEEP(a);                                                            \
          STEP;                                                               \
          KEEP(s);                                                            \
        }                                                                     \
      }                                                                       \
      _Pragma("GCC unroll 32") for (VECTOR & s : sums) total += sum<LANE>(s); \
    }                                                                         \
    return total;                                                             \
  }

#if defined(__x86_64__)
#define FOR(SET) __attribute__((target(SET)))

KERNEL(vnni512, FOR("avx512f,avx512vnni"), __m512i, int, 16, _mm512_setzero_si512(), __m512i,
       _mm512_set1_epi32(0x01010101), s = _mm512_dpbusd_epi32(s, a, b))
KERNEL(vnni256, FOR("avx2,avxvnni"), __m256i, int, 12, _mm256_setzero_si256(), __m256i, _mm256_set1_epi8(1),
       s = _mm256_dpbusd_avx_epi32(s, a, b))
KERNEL(maddubs, FOR("avx2"), __m256i, int, 8, _mm256_setzero_si256(), __m256i, _mm256_set1_epi8(1),
       s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))))
KERNEL(fma512, FOR("avx512f"), __m512, float, 16, _mm512_setzero_ps(), __m512, _mm512_set1_ps(1),
       s = _mm512_fmadd_ps(a, b, s))
KERNEL(fma256, FOR("avx2,fma"), __m256, float, 12, _mm256_setzero_ps(), __m256, _mm256_set1_ps(1),
       s = _mm256_fmadd_ps(a, b, s))
KERNEL(bf512, FOR("avx512f,avx512bf16"), __m512, float, 16, _mm512_setzero_ps(), __m512i,
       _mm512_set1_epi32(0x3F803F80), s = _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b))
#elif defined(__aarch64__)
KERNEL(fma128, , float32x4_t, float, 24, vdupq_n_f32(0), float32x4_t, vdupq_n_f32(1), s = vfmaq_f32(s, a, b))
#if defined(__ARM_FEATURE_DOTPROD)
KERNEL(dot128, , int32x4_t, int, 24, vdupq_n_s32(0), int8x16_t, vdupq_n_s8(1), s = vdotq_s32(s, a, b))
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
KERNEL(bfdot128, , float32x4_t, float, 24, vdupq_n_f32(0), bfloat16x8_t, vreinterpretq_bf16_u16(vdupq_n_u16(0x3F80)),
       s = vbfdotq_f32(s, a, b))
#endif
#endif

// One add a cycle: every add waits for the one before it, so adds a second are cycles a second.
double adds(long rounds) {
  unsigned long sum = 0, one = 1;
  for (long i = 0; i < rounds * kSteps / 16; ++i) {
#if defined(__x86_64__)
#define ADD asm volatile("add %1, %0" : "+r"(sum) : "r"(one));
#elif defined(__aarch64__)
#define ADD asm volatile("add %0, %0, %1" : "+r"(sum) : "r"(one));
#endif
    ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD
  }
  return static_cast<double>(sum);
}

struct Kernel {
  const char* name;
  const char* type;
  double per_step;  // operations of all accumulators in one step
  double (*run)(long rounds);
};

std::vector<Kernel> kernels() {
  std::vector<Kernel> found = {{"chain of dependent adds", "clock", 1, adds}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni")) found.push_back({"AVX-512 VNNI vpdpbusd", "int8", 16 * 64, vnni512});
  if (__builtin_cpu_supports("avxvnni")) found.push_back({"AVX-VNNI vpdpbusd", "int8", 12 * 32, vnni256});
  if (__builtin_cpu_supports("avx2")) found.push_back({"AVX2 vpmaddubsw + vpmaddwd", "int8", 8 * 32, maddubs});
  if (__builtin_cpu_supports("avx512bf16")) found.push_back({"AVX-512 BF16 vdpbf16ps", "bfloat16", 16 * 32, bf512});
  if (__builtin_cpu_supports("avx512f")) found.push_back({"AVX-512 FMA", "float32", 16 * 16, fma512});
  if (__builtin_cpu_supports("fma")) found.push_back({"AVX2 FMA", "float32", 12 * 8, fma256});
#elif defined(__aarch64__)
#if defined(__ARM_FEATURE_DOTPROD)
  found.push_back({"NEON sdot", "int8", 24 * 16, dot128});
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  found.push_back({"NEON bfdot", "bfloat16", 24 * 8, bfdot128});
#endif
  found.push_back({"NEON FMA", "float32", 24 * 4, fma128});
#endif
  return found;
}

std::vector<int> usable_processors() {
  cpu_set_t set;
  std::vector<int> found;
  if (sched_getaffinity(0, sizeof set, &set) != 0) std::exit(3);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
  return found;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Operations a second of `threads` threads, each on a processor of its own, from the first start to the last end.
double measure(const Kernel& kernel, int threads, long rounds) {
  const std::vector<int> cpus = usable_processors();
  std::atomic<int> waiting{threads};
  std::vector<double> began(threads), ended(threads), results(threads);
  std::vector<std::thread> crew;
  for (int i = 0; i < threads; ++i) {
    crew.emplace_back([&, i] {
      cpu_set_t own;
      CPU_ZERO(&own);
      CPU_SET(cpus[i % cpus.size()], &own);
      if (sched_setaffinity(0, sizeof own, &own) != 0) std::exit(3);
      --waiting;
      while (waiting > 0) std::this_thread::yield();
      began[i] = now();
      results[i] = kernel.run(rounds);
      ended[i] = now();
    });
  }
  for (std::thread& thread : crew) thread.join();
  double first = began[0], last = ended[0], total = 0;
  for (int i = 0; i < threads; ++i) {
    first = began[i] < first ? began[i] : first;
    last = ended[i] > last ? ended[i] : last;
    total += results[i];
  }
  const double expected = kernel.per_step * kSteps * static_cast<double>(rounds) * threads;
  if (total != expected) {
    std::fprintf(stderr, "%s counted %.0f operations where %.0f were due\n", kernel.name, total, expected);
    std::exit(1);
  }
  return total / (last - first);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int threads = std::atoi(argv[1]), repetitions = std::atoi(argv[2]);
  const double seconds = std::atof(argv[3]) / 1e3;
  const std::vector<Kernel> found = kernels();
  std::vector<long> rounds;
  for (const Kernel& kernel : found) {
    measure(kernel, 1, 256);  // wake the clock
    const double rate = measure(kernel, 1, 256);
    rounds.push_back(1 + static_cast<long>(rate * seconds / (kernel.per_step * kSteps)));
  }
  std::vector<std::vector<double>> samples(found.size());
  for (int repetition = 0; repetition < repetitions; ++repetition)  // kernels take turns
    for (size_t i = 0; i < found.size(); ++i) samples[i].push_back(measure(found[i], threads, rounds[i]));
  std::printf("[");
  for (size_t i = 0; i < found.size(); ++i) {
    std::printf("%s\n  {\"kernel\": \"%s\", \"type\": \"%s\", \"per_s\": [", i ? "," : "", found[i].name, found[i].type);
    for (size_t j = 0; j < samples[i].size(); ++j) std::printf("%s%.0f", j ? ", " : "", samples[i][j]);
    std::printf("]}");
  }
  std::printf("\n]\n");
  return 0;
}

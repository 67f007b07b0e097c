/* Number types, small arithmetic and the random bits of dropout, shared by all kernels. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int omp_get_thread_num(void); /* of the OpenMP library that PyTorch has loaded; omp.h need not be installed */

/* Round to bf16: to nearest, ties to even, as PyTorch does. A NaN made by arithmetic stays a NaN: its low bits are 0,
 * so adding 0x7fff does not carry. */
static inline uint16_t round_to_bf16(float x)
{
    union { float value; uint32_t bits; } y = {.value = x};
    return (uint16_t)((y.bits + 0x7fff + ((y.bits >> 16) & 1)) >> 16);
}

/* T is the type of tensors in memory. Kernels compute in float: `load` converts a T to float, `store` a float to T. */
#if BF16
typedef uint16_t T;
static inline float load(T x)
{
    union { uint32_t bits; float value; } y = {.bits = (uint32_t)x << 16};
    return y.value;
}
static inline T store(float x) { return round_to_bf16(x); }
#else
typedef float T;
static inline float load(T x) { return x; }
static inline T store(float x) { return x; }
#endif

static inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

/* e^x by Cephes' expf: x = n ln 2 + r, and e^x = 2^n e^r, where e^r is a polynomial. No branch, so that loops around it
 * vectorise. 0 below -87, clamped at 88; NaN stays. */
static inline float exponential(float x)
{
    int is_small = x < -87.0f;
    x = is_small ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f), whole = n == n ? n : 0.0f; /* the cast of a NaN to an integer is undefined */
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts: n times the first is exact */
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    union { uint32_t bits; float value; } power = {.bits = (uint32_t)((int32_t)whole + 127) << 23}; /* 2^n */
    return is_small ? 0.0f : (y * r * r + r + 1.0f) * power.value;
}

/* Dropout decides by a hash of (seed, row, column), so the backward repeats the forward's decision and no mask is
 * stored. The hash is lowbias32 of C. Wellons. An element is dropped if its hash is below threshold = rate * 2^32. */
static inline uint32_t mix_bits(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
}
static inline uint32_t row_key(uint64_t seed, int64_t row)
{
    return mix_bits(mix_bits((uint32_t)seed + (uint32_t)row) ^ (uint32_t)(seed >> 32));
}
/* The factor of an element: 0 if it is dropped, else kept_scale. The odd constant (2^32 / the golden ratio) spreads the
 * columns over all 32 bits. */
static inline float dropout_scale(uint32_t key, int64_t column, uint32_t threshold, float kept_scale)
{
    return mix_bits(key ^ ((uint32_t)column * 0x9e3779b1U)) >= threshold ? kept_scale : 0.0f;
}
/* 1 / (1 - rate), which keeps the expectation. */
static inline float kept_scale_of(uint32_t threshold) { return (float)(4294967296.0 / (4294967296.0 - threshold)); }

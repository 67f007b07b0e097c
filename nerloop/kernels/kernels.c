/* What a training on a CPU does besides matrix products, each in one pass over memory instead of many.
 *
 * nerloop/kernels/bindings.py compiles this for the machine at hand, once for each type of numbers (BF16 is 1 or 0). All is
 * computed in float32 and rounded at the end. The result of a row or sentence does not depend on how many threads there
 * are nor on what else is computed; sums over rows, which the threads share, depend on their number alone.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* bf16: to the nearest, ties to even. The NaNs that arithmetic makes stay NaN. */
static inline uint16_t rounded(float x)
{
    union { float value; uint32_t bits; } y = {.value = x};
    return (uint16_t)((y.bits + 0x7fff + ((y.bits >> 16) & 1)) >> 16);
}

#if BF16
typedef uint16_t T;
static inline float from(T x)
{
    union { uint32_t bits; float value; } y = {.bits = (uint32_t)x << 16};
    return y.value;
}
static inline T to(float x) { return rounded(x); }
#else
typedef float T;
static inline float from(T x) { return x; }
static inline T to(float x) { return x; }
#endif

/* A block of ROWS x LANES sums of a product lies in registers. BLOCK queries are attended to at a time. */
#ifdef __AVX512F__
enum { LANES = 16, ROWS = 8, BLOCK = 64 };
#else
enum { LANES = 8, ROWS = 8, BLOCK = 64 };
#endif
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

static inline int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Cephes' expf, but 0 below -87 and no more than that of 88; NaN stays NaN. */
static inline float exponential(float x)
{
    int is_small = x < -87.0f;
    x = is_small ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f), whole = n == n ? n : 0.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    union { uint32_t bits; float value; } power = {.bits = (uint32_t)((int32_t)whole + 127) << 23};
    return is_small ? 0.0f : (y * r * r + r + 1.0f) * power.value;
}

/* Dropout draws by a hash (lowbias32 of C. Wellons) of seed, row and column, so that no mask is kept for the gradient. */
static inline uint32_t mixed(uint32_t x)
{
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
}
static inline uint32_t key_of(uint64_t seed, int64_t row)
{
    return mixed(mixed((uint32_t)seed + (uint32_t)row) ^ (uint32_t)(seed >> 32));
}
/* What an element is multiplied with: 0 for a share threshold / 2^32 of them, else 1 / (1 - share). */
static inline float kept(uint32_t key, int64_t column, uint32_t threshold, float scale)
{
    return mixed(key ^ ((uint32_t)column * 0x9e3779b1U)) >= threshold ? scale : 0.0f;
}
static inline float scale_of(uint32_t threshold) { return (float)(4294967296.0 / (4294967296.0 - threshold)); }

/* y = x with elements dropped; also the gradient. (rows, width). */
void drop(const T *restrict x, T *restrict y, int64_t rows, int64_t width, uint32_t threshold, uint64_t seed, int64_t threads)
{
    float scale = scale_of(threshold);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < rows; i++) {
        uint32_t key = key_of(seed, i);
        const T *in = x + i * width;
        T *out = y + i * width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            out[j] = to(from(in[j]) * kept(key, j, threshold, scale));
    }
}

/* exp(-x*x/2), and by it the normal distribution up to x (Abramowitz and Stegun 7.1.26: right to 1.5e-7). */
static inline float normal(float x, float *density)
{
    float z = fabsf(x) * 0.70710678f, e = exponential(-z * z), t = 1.0f / (1.0f + 0.3275911f * z);
    float y = 1.061405429f;
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    float above = 0.5f * y * t * e;
    *density = 0.39894228f * e;
    return x < 0.0f ? above : 1.0f - above;
}

/* y = GELU of x, and its slope, which the gradient is multiplied with (may be null). */
void gelu(const T *restrict x, T *restrict y, T *restrict slope, int64_t n, int64_t threads)
{
    if (slope) {
#pragma omp parallel for simd num_threads(threads)
        for (int64_t i = 0; i < n; i++) {
            float one = from(x[i]), density, below = normal(one, &density);
            y[i] = to(one * below);
            slope[i] = to(below + one * density);
        }
    } else {
#pragma omp parallel for simd num_threads(threads)
        for (int64_t i = 0; i < n; i++) {
            float one = from(x[i]), density;
            y[i] = to(one * normal(one, &density));
        }
    }
}

/* sum = residual + x with elements dropped; y = its layer norm. (rows, width); statistics are (rows, 2): mean and
 * 1 / deviation. */
void add_and_norm(const T *restrict x, const T *restrict residual, const T *restrict weight, const T *restrict bias,
                  T *restrict sum, T *restrict y, float *restrict statistics, int64_t rows, int64_t width, float epsilon,
                  uint32_t threshold, uint64_t seed, int64_t threads)
{
    float scale = scale_of(threshold);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < rows; i++) {
        const T *in = x + i * width, *beside = residual + i * width;
        T *z = sum + i * width, *out = y + i * width;
        uint32_t key = key_of(seed, i);
        float total = 0.0f, squares = 0.0f;
        if (threshold) {
#pragma omp simd reduction(+ : total)
            for (int64_t j = 0; j < width; j++) {
                z[j] = to(from(beside[j]) + from(in[j]) * kept(key, j, threshold, scale));
                total += from(z[j]);
            }
        } else {
#pragma omp simd reduction(+ : total)
            for (int64_t j = 0; j < width; j++) {
                z[j] = to(from(beside[j]) + from(in[j]));
                total += from(z[j]);
            }
        }
        float mean = total / width;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < width; j++)
            squares += (from(z[j]) - mean) * (from(z[j]) - mean);
        float factor = 1.0f / sqrtf(squares / width + epsilon);
        statistics[2 * i] = mean;
        statistics[2 * i + 1] = factor;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            out[j] = to((from(z[j]) - mean) * factor * from(weight[j]) + from(bias[j]));
    }
}

/* The gradients of add_and_norm; of_parameters is (threads, 2, width) to work in, of which the first row is the result:
 * of weight and bias. */
void add_and_norm_gradient(const T *restrict of_y, const T *restrict sum, const float *restrict statistics,
                           const T *restrict weight, T *restrict of_x, T *restrict of_residual,
                           float *restrict of_parameters, int64_t rows, int64_t width, uint32_t threshold, uint64_t seed,
                           int64_t threads)
{
    float scale = scale_of(threshold);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t part = 0; part < threads; part++) {
        float *restrict of_weight = of_parameters + 2 * part * width, *restrict of_bias = of_weight + width;
        memset(of_weight, 0, 2 * width * sizeof(float));
        for (int64_t i = rows * part / threads; i < rows * (part + 1) / threads; i++) {
            const T *out = of_y + i * width, *z = sum + i * width;
            T *restrict in = of_x + i * width, *restrict beside = of_residual + i * width;
            uint32_t key = key_of(seed, i);
            float mean = statistics[2 * i], factor = statistics[2 * i + 1], total = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : total, along)
            for (int64_t j = 0; j < width; j++) {
                float one = (from(z[j]) - mean) * factor, gradient = from(out[j]);
                of_weight[j] += gradient * one;
                of_bias[j] += gradient;
                total += gradient * from(weight[j]);
                along += gradient * from(weight[j]) * one;
            }
            total /= width;
            along /= width;
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                float one = (from(z[j]) - mean) * factor;
                float gradient = factor * (from(out[j]) * from(weight[j]) - total - one * along);
                beside[j] = to(gradient);
                if (threshold)
                    in[j] = to(gradient * kept(key, j, threshold, scale));
            }
        }
    }
    for (int64_t part = 1; part < threads; part++)
        for (int64_t j = 0; j < 2 * width; j++)
            of_parameters[j] += of_parameters[2 * part * width + j];
}

/* out (n, m) = a (n, k) b (k, m), or added to it. n is a multiple of ROWS, m of LANES; a is read by steps between rows
 * and columns, so that it may be a transposed one. */
static inline __attribute__((always_inline)) void
product(float *restrict out, int64_t out_row, const float *restrict a, int64_t a_row, int64_t a_column,
        const float *restrict b, int64_t b_row, int64_t n, int64_t m, int64_t k, int is_added)
{
    for (int64_t i = 0; i < n; i += ROWS)
        for (int64_t j = 0; j < m; j += LANES) {
            Lanes sums[ROWS];
            for (int r = 0; r < ROWS; r++)
                sums[r] = is_added ? *(Lanes *)(out + (i + r) * out_row + j) : (Lanes){0};
            for (int64_t c = 0; c < k; c++) {
                Lanes right = *(const Lanes *)(b + c * b_row + j);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; r++)
                    sums[r] += a[(i + r) * a_row + c * a_column] * right;
            }
            for (int r = 0; r < ROWS; r++)
                *(Lanes *)(out + (i + r) * out_row + j) = sums[r];
        }
}

/* Numbers to work in, side by side with the lines of the cache. */
static float *memory_for(int64_t numbers)
{
    float *memory = aligned_alloc(64, up(numbers * sizeof(float), 64));
    if (!memory)
        abort();
    return memory;
}

/* The heads of subwords, (heads, subwords, width), by steps between heads and subwords. */
typedef struct {
    T *at;
    int64_t head, subword;
} Heads;

/* Rows of a head as float32: both their number and their width go up to a multiple of LANES, by zeros. */
static void load(float *restrict out, Heads x, int64_t head, int64_t first, int64_t n, int64_t width, float factor)
{
    int64_t row = up(width, LANES);
    for (int64_t i = 0; i < up(n, LANES); i++) {
        const T *in = x.at + head * x.head + (first + i) * x.subword;
        for (int64_t c = 0; c < row; c++)
            out[i * row + c] = i < n && c < width ? from(in[c]) * factor : 0.0f;
    }
}
static void store(Heads x, const float *restrict in, int64_t head, int64_t first, int64_t n, int64_t width, float factor)
{
    int64_t row = up(width, LANES);
    for (int64_t i = 0; i < n; i++) {
        T *out = x.at + head * x.head + (first + i) * x.subword;
#pragma omp simd
        for (int64_t c = 0; c < width; c++)
            out[c] = to(in[i * row + c] * factor);
    }
}
/* (n, m) to (m, n), both multiples of LANES: the halves of a block's rows are shuffled into each other until columns
 * are rows. */
static void transpose(float *restrict out, const float *restrict in, int64_t n, int64_t m)
{
    typedef int32_t Places __attribute__((vector_size(LANES * sizeof(int32_t))));
    Places low, high;
    for (int j = 0; j < LANES; j++) {
        low[j] = j / 2 + j % 2 * LANES;
        high[j] = low[j] + LANES / 2;
    }
    for (int64_t i = 0; i < n; i += LANES)
        for (int64_t c = 0; c < m; c += LANES) {
            Lanes rows[LANES], shuffled[LANES];
            for (int r = 0; r < LANES; r++)
                rows[r] = *(const Lanes *)(in + (i + r) * m + c);
            for (int done = 1; done < LANES; done *= 2) {
#pragma GCC unroll 16
                for (int r = 0; r < LANES / 2; r++) {
                    shuffled[2 * r] = __builtin_shuffle(rows[r], rows[r + LANES / 2], low);
                    shuffled[2 * r + 1] = __builtin_shuffle(rows[r], rows[r + LANES / 2], high);
                }
                memcpy(rows, shuffled, sizeof rows);
            }
            for (int r = 0; r < LANES; r++)
                *(Lanes *)(out + (c + r) * n + i) = rows[r];
        }
}

typedef struct {
    const int32_t *borders; /* (sentences + 1,) */
    int64_t sentences, heads, width, longest;
    int64_t window; /* how far a subword sees: less than so many subwords away */
    float scaling;
    uint32_t threshold;
    uint64_t seed;
    int64_t threads;
} Task;

/* Attention within each sentence: output, and statistics, (subwords, heads, 2), which the gradient needs (may be null):
 * the largest score, and 1 / the sum of exponentials. */
void attend(const Task *task, const Heads *query, const Heads *key, const Heads *value, const Heads *output,
            float *restrict statistics)
{
    int64_t wide = up(task->width, LANES), most_long = up(task->longest, LANES);
    float scale = scale_of(task->threshold);
#pragma omp parallel num_threads(task->threads)
    {
        float *memory = memory_for(3 * most_long * wide + BLOCK * (2 * wide + most_long));
        float *k = memory, *kt = k + most_long * wide, *v = kt + most_long * wide;
        float *q = v + most_long * wide, *o = q + BLOCK * wide, *s = o + BLOCK * wide;
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < task->sentences * task->heads; item++) {
            int64_t sentence = item / task->heads, head = item % task->heads;
            int64_t start = task->borders[sentence], n = task->borders[sentence + 1] - start, long_ = up(n, LANES);
            load(k, *key, head, start, n, task->width, 1.0f);
            load(v, *value, head, start, n, task->width, 1.0f);
            transpose(kt, k, long_, wide);
            for (int64_t first = 0; first < n; first += BLOCK) {
                int64_t rows = least(BLOCK, n - first);
                load(q, *query, head, start + first, rows, task->width, task->scaling);
                product(s, long_, q, wide, 1, kt, long_, up(rows, ROWS), long_, task->width, 0);
                int width = long_; /* 32 bits, of which a vector compares more */
                for (int64_t i = 0; i < rows; i++) {
                    float *row = s + i * long_, largest = -INFINITY, sum = 0.0f;
                    int from_ = most(0, first + i - task->window + 1), to_ = least(n, first + i + task->window);
                    int64_t at = (start + first + i) * task->heads + head;
                    uint32_t own = key_of(task->seed, at);
#pragma omp simd reduction(max : largest)
                    for (int j = 0; j < width; j++) {
                        float one = j >= from_ && j < to_ ? row[j] : -INFINITY;
                        largest = one > largest ? one : largest;
                    }
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < width; j++) {
                        float one = exponential(row[j] - largest);
                        one = j >= from_ && j < to_ ? one : 0.0f;
                        sum += one;
                        row[j] = one;
                    }
                    float factor = 1.0f / sum;
                    if (statistics) {
                        statistics[2 * at] = largest;
                        statistics[2 * at + 1] = factor;
                    }
                    if (task->threshold) {
#pragma omp simd
                        for (int j = 0; j < width; j++)
                            row[j] *= factor * kept(own, j, task->threshold, scale);
                    } else {
#pragma omp simd
                        for (int j = 0; j < width; j++)
                            row[j] *= factor;
                    }
                }
                product(o, wide, s, long_, 1, v, wide, up(rows, ROWS), wide, n, 0);
                store(*output, o, head, start + first, rows, task->width, 1.0f);
            }
        }
        free(memory);
    }
}

/* The gradients of attend. */
void attend_gradient(const Task *task, const Heads *query, const Heads *key, const Heads *value,
                     const float *restrict statistics, const Heads *of_output, const Heads *of_query,
                     const Heads *of_key, const Heads *of_value)
{
    int64_t wide = up(task->width, LANES), most_long = up(task->longest, LANES);
    float scale = scale_of(task->threshold);
#pragma omp parallel num_threads(task->threads)
    {
        float *memory = memory_for(6 * most_long * wide + BLOCK * (3 * wide + 2 * most_long));
        float *k = memory, *kt = k + most_long * wide, *v = kt + most_long * wide, *vt = v + most_long * wide;
        float *of_k = vt + most_long * wide, *of_v = of_k + most_long * wide;
        float *q = of_v + most_long * wide, *of_o = q + BLOCK * wide, *of_q = of_o + BLOCK * wide;
        float *p = of_q + BLOCK * wide, *of_s = p + BLOCK * most_long;
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < task->sentences * task->heads; item++) {
            int64_t sentence = item / task->heads, head = item % task->heads;
            int64_t start = task->borders[sentence], n = task->borders[sentence + 1] - start, long_ = up(n, LANES);
            load(k, *key, head, start, n, task->width, 1.0f);
            load(v, *value, head, start, n, task->width, 1.0f);
            transpose(kt, k, long_, wide);
            transpose(vt, v, long_, wide);
            for (int64_t first = 0; first < n; first += BLOCK) {
                int64_t rows = least(BLOCK, n - first), rows_up = up(rows, ROWS);
                load(q, *query, head, start + first, rows, task->width, task->scaling);
                load(of_o, *of_output, head, start + first, rows, task->width, 1.0f);
                product(p, long_, q, wide, 1, kt, long_, rows_up, long_, task->width, 0);
                product(of_s, long_, of_o, wide, 1, vt, long_, rows_up, long_, task->width, 0);
                int width = long_; /* 32 bits, of which a vector compares more */
                for (int64_t i = 0; i < rows; i++) {
                    float *restrict share = p + i * long_, *restrict gradient = of_s + i * long_, along = 0.0f;
                    int from_ = most(0, first + i - task->window + 1), to_ = least(n, first + i + task->window);
                    int64_t at = (start + first + i) * task->heads + head;
                    uint32_t own = key_of(task->seed, at);
                    float largest = statistics[2 * at], share_of_one = statistics[2 * at + 1];
                    if (task->threshold) {
#pragma omp simd reduction(+ : along)
                        for (int j = 0; j < width; j++) {
                            float one = exponential(share[j] - largest) * share_of_one;
                            one = j >= from_ && j < to_ ? one : 0.0f;
                            float factor = kept(own, j, task->threshold, scale);
                            along += one * factor * gradient[j];
                            gradient[j] = one * factor * gradient[j];
                            share[j] = one;
                        }
#pragma omp simd
                        for (int j = 0; j < width; j++) {
                            gradient[j] -= share[j] * along;
                            share[j] *= kept(own, j, task->threshold, scale);
                        }
                    } else {
#pragma omp simd reduction(+ : along)
                        for (int j = 0; j < width; j++) {
                            float one = exponential(share[j] - largest) * share_of_one;
                            one = j >= from_ && j < to_ ? one : 0.0f;
                            along += one * gradient[j];
                            share[j] = one;
                        }
#pragma omp simd
                        for (int j = 0; j < width; j++)
                            gradient[j] = share[j] * (gradient[j] - along);
                    }
                }
                product(of_v, wide, p, 1, long_, of_o, wide, long_, wide, rows, first > 0);
                product(of_k, wide, of_s, 1, long_, q, wide, long_, wide, rows, first > 0);
                product(of_q, wide, of_s, long_, 1, k, wide, rows_up, wide, n, 0);
                store(*of_query, of_q, head, start + first, rows, task->width, task->scaling);
            }
            store(*of_key, of_k, head, start, n, task->width, 1.0f);
            store(*of_value, of_v, head, start, n, task->width, 1.0f);
        }
        free(memory);
    }
}

/* Some numbers of a parameter in training: float32 weight and moments, the gradient, and the weight that computes. */
typedef struct {
    float *weight, *mean, *square;
    const T *gradient;
    uint16_t *published; /* bf16 */
    int64_t n;
    double step, rate, decay; /* the step that it is, from 1; learning rate, weight decay */
} Part;

/* The sum of the squares of each part's gradient: (parts,). */
void sums_of_squares(const Part *parts, int64_t count, double *sums, int64_t threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < count; i++) {
        const T *restrict gradient = parts[i].gradient;
        int64_t n = parts[i].n;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
            sum += from(gradient[j]) * from(gradient[j]);
        sums[i] = sum;
    }
}

/* AdamW (Loshchilov and Hutter, 2019), as PyTorch's fused one computes it, of gradients times a factor; the weight goes
 * out in bf16, too. */
void update(const Part *parts, int64_t count, double beta1, double beta2, double epsilon, double factor,
            int64_t threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < count; i++) {
        float *restrict weight = parts[i].weight, *restrict mean = parts[i].mean, *restrict square = parts[i].square;
        const T *restrict gradient = parts[i].gradient;
        uint16_t *restrict published = parts[i].published;
        float size = parts[i].rate / (1.0 - pow(beta1, parts[i].step)), root = sqrt(1.0 - pow(beta2, parts[i].step));
        float remains = 1.0 - parts[i].rate * parts[i].decay, tiny = epsilon, scale = factor;
        float one = 1.0 - beta1, two = beta2, other = 1.0 - beta2;
        int64_t n = parts[i].n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float g = from(gradient[j]) * scale;
            mean[j] += one * (g - mean[j]);
            square[j] = two * square[j] + other * g * g;
            weight[j] = remains * weight[j] - size * mean[j] / (sqrtf(square[j]) / root + tiny);
            published[j] = rounded(weight[j]);
        }
    }
}

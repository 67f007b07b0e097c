/* Attention within each sequence of a packed row.
 *
 * A task is one head of one sequence, so the result of a sequence does not depend on its neighbours or on the number of
 * threads. Keys and values of a task are copied to a workspace as float32, padded with zeros to multiples of LANES, so
 * that all products run without remainders. Queries are processed in blocks of BLOCK, so the scores of a block stay in
 * the cache. The scores of a whole batch are never in memory.
 */

/* A product keeps ROWS x LANES sums in registers: 8 of the 32 (AVX-512) or 16 (AVX2) vector registers. */
#ifdef __AVX512F__
enum { LANES = 16, ROWS = 8, BLOCK = 64 };
#else
enum { LANES = 8, ROWS = 8, BLOCK = 64 };
#endif
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

/* out (n, m) = a (n, k) b (k, m), plus what out holds if is_added. n is a multiple of ROWS and m of LANES. The strides
 * of a between rows and between columns are given, so a may be a transposed matrix. */
static inline __attribute__((always_inline)) void
multiply(float *restrict out, int64_t out_row, const float *restrict a, int64_t a_row, int64_t a_column,
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

/* A tensor (heads, subwords, width), given by its strides between heads and subwords; the width is contiguous. */
typedef struct {
    T *data;
    int64_t head_stride, subword_stride;
} Heads;

/* Copy n rows of a head, times factor, as float32. Rows and columns up to the next multiple of LANES become zeros. */
static void load_rows(float *restrict out, Heads x, int64_t head, int64_t first, int64_t n, int64_t width, float factor)
{
    int64_t row = round_up(width, LANES);
    for (int64_t i = 0; i < n; i++) {
        const T *in = x.data + head * x.head_stride + (first + i) * x.subword_stride;
#pragma omp simd
        for (int64_t c = 0; c < width; c++)
            out[i * row + c] = load(in[c]) * factor;
        for (int64_t c = width; c < row; c++)
            out[i * row + c] = 0.0f;
    }
    memset(out + n * row, 0, (round_up(n, LANES) - n) * row * sizeof(float));
}
/* The reverse: copy n rows, times factor, back into a head. */
static void store_rows(Heads x, const float *restrict in, int64_t head, int64_t first, int64_t n, int64_t width,
                       float factor)
{
    int64_t row = round_up(width, LANES);
    for (int64_t i = 0; i < n; i++) {
        T *out = x.data + head * x.head_stride + (first + i) * x.subword_stride;
#pragma omp simd
        for (int64_t c = 0; c < width; c++)
            out[c] = store(in[i * row + c] * factor);
    }
}

/* Transpose (n, m) to (m, n), both multiples of LANES, by blocks of LANES x LANES. Each round interleaves the two
 * halves of a block's rows; after log2(LANES) rounds rows have become columns. */
static void transpose(float *restrict out, const float *restrict in, int64_t n, int64_t m)
{
    typedef int32_t Indices __attribute__((vector_size(LANES * sizeof(int32_t))));
    Indices low, high;
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

/* What a call computes. `_Attention` in bindings.py has the same fields in the same order. */
typedef struct {
    const int32_t *cu_seqlens; /* (sequences + 1,) where each sequence starts; the last entry is the end */
    int64_t sequences, heads, width, max_seqlen;
    int64_t window; /* a subword only sees those less than this many subwords away */
    float scaling;
    uint32_t threshold; /* of dropout */
    uint64_t seed;
    int64_t threads;
} Attention;

/* Return an aligned workspace with this many floats (a multiple of 16) for each thread, null if there is no memory. */
static float *new_workspace(int64_t threads, int64_t floats)
{
    int64_t bytes;
    if (__builtin_mul_overflow(threads * (int64_t)sizeof(float), round_up(floats, 16), &bytes))
        return NULL;
    return aligned_alloc(64, bytes);
}

/* output (heads, subwords, width) = softmax(scaling * query key^T) value, within each sequence. statistics (subwords,
 * heads, 2; may be null) get the largest score and 1 / the sum of exponentials of each row, from which the backward
 * recomputes the probabilities. Returns 0, or 1 if there is no memory for the workspace. */
int attention_forward(const Attention *task, const Heads *query, const Heads *key, const Heads *value,
                      const Heads *output, float *restrict statistics)
{
    int64_t width_up = round_up(task->width, LANES), max_up = round_up(task->max_seqlen, LANES);
    int64_t floats = round_up(3 * max_up * width_up + BLOCK * (2 * width_up + max_up), 16);
    float kept_scale = kept_scale_of(task->threshold);
    float *workspace = new_workspace(task->threads, floats);
    if (!workspace)
        return 1;
#pragma omp parallel num_threads(task->threads)
    {
        float *k = workspace + omp_get_thread_num() * floats, *kt = k + max_up * width_up, *v = kt + max_up * width_up;
        float *q = v + max_up * width_up, *o = q + BLOCK * width_up, *s = o + BLOCK * width_up;
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < task->sequences * task->heads; item++) {
            int64_t sequence = item / task->heads, head = item % task->heads;
            int64_t start = task->cu_seqlens[sequence], n = task->cu_seqlens[sequence + 1] - start;
            int64_t n_up = round_up(n, LANES);
            load_rows(k, *key, head, start, n, task->width, 1.0f);
            load_rows(v, *value, head, start, n, task->width, 1.0f);
            transpose(kt, k, n_up, width_up);
            for (int64_t first = 0; first < n; first += BLOCK) {
                int64_t rows = min(BLOCK, n - first);
                load_rows(q, *query, head, start + first, rows, task->width, task->scaling);
                multiply(s, n_up, q, width_up, 1, kt, n_up, round_up(rows, ROWS), n_up, task->width, 0);
                int columns = n_up; /* an int is as wide as a float, so a vector compares LANES of them */
                /* The softmax of each row, in three passes while it is in the cache: the largest score, the
                 * exponentials and their sum, then the division by the sum together with dropout. */
                for (int64_t i = 0; i < rows; i++) {
                    /* Only keys from begin to end are seen: within the window, and not the padding after n. */
                    float *row = s + i * n_up, largest = -INFINITY, sum = 0.0f;
                    int begin = max(0, first + i - task->window + 1), end = min(n, first + i + task->window);
                    int64_t at = (start + first + i) * task->heads + head;
                    uint32_t drop_key = row_key(task->seed, at);
#pragma omp simd reduction(max : largest)
                    for (int j = 0; j < columns; j++) {
                        float score = j >= begin && j < end ? row[j] : -INFINITY;
                        largest = score > largest ? score : largest;
                    }
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < columns; j++) {
                        float e = exponential(row[j] - largest);
                        e = j >= begin && j < end ? e : 0.0f;
                        sum += e;
                        row[j] = e;
                    }
                    float factor = 1.0f / sum;
                    if (statistics) {
                        statistics[2 * at] = largest;
                        statistics[2 * at + 1] = factor;
                    }
                    if (task->threshold) {
#pragma omp simd
                        for (int j = 0; j < columns; j++)
                            row[j] *= factor * dropout_scale(drop_key, j, task->threshold, kept_scale);
                    } else {
#pragma omp simd
                        for (int j = 0; j < columns; j++)
                            row[j] *= factor;
                    }
                }
                multiply(o, width_up, s, n_up, 1, v, width_up, round_up(rows, ROWS), width_up, n, 0);
                store_rows(*output, o, head, start + first, rows, task->width, 1.0f);
            }
        }
    }
    free(workspace);
    return 0;
}

/* The gradients of attention_forward. With probabilities p, their dropout factors f and gradients g:
 * d_scores = p * (f * g - sum_j(p f g)), d_value = (p f)^T d_output, d_query = d_scores key, d_key = d_scores^T query.
 * The scaling is in the query when d_key is computed, so only d_query is scaled at the end. p is recomputed block by
 * block. Returns 0, or 1 if there is no memory for the workspace. */
int attention_backward(const Attention *task, const Heads *query, const Heads *key, const Heads *value,
                       const float *restrict statistics, const Heads *d_output, const Heads *d_query,
                       const Heads *d_key, const Heads *d_value)
{
    int64_t width_up = round_up(task->width, LANES), max_up = round_up(task->max_seqlen, LANES);
    int64_t floats = round_up(6 * max_up * width_up + BLOCK * (3 * width_up + 2 * max_up), 16);
    float kept_scale = kept_scale_of(task->threshold);
    float *workspace = new_workspace(task->threads, floats);
    if (!workspace)
        return 1;
#pragma omp parallel num_threads(task->threads)
    {
        float *k = workspace + omp_get_thread_num() * floats, *kt = k + max_up * width_up, *v = kt + max_up * width_up;
        float *vt = v + max_up * width_up, *dk = vt + max_up * width_up, *dv = dk + max_up * width_up;
        float *q = dv + max_up * width_up, *d_o = q + BLOCK * width_up, *dq = d_o + BLOCK * width_up;
        float *p = dq + BLOCK * width_up, *ds = p + BLOCK * max_up;
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < task->sequences * task->heads; item++) {
            int64_t sequence = item / task->heads, head = item % task->heads;
            int64_t start = task->cu_seqlens[sequence], n = task->cu_seqlens[sequence + 1] - start;
            int64_t n_up = round_up(n, LANES);
            load_rows(k, *key, head, start, n, task->width, 1.0f);
            load_rows(v, *value, head, start, n, task->width, 1.0f);
            transpose(kt, k, n_up, width_up);
            transpose(vt, v, n_up, width_up);
            for (int64_t first = 0; first < n; first += BLOCK) {
                int64_t rows = min(BLOCK, n - first), rows_up = round_up(rows, ROWS);
                load_rows(q, *query, head, start + first, rows, task->width, task->scaling);
                load_rows(d_o, *d_output, head, start + first, rows, task->width, 1.0f);
                multiply(p, n_up, q, width_up, 1, kt, n_up, rows_up, n_up, task->width, 0);
                multiply(ds, n_up, d_o, width_up, 1, vt, n_up, rows_up, n_up, task->width, 0);
                int columns = n_up; /* an int is as wide as a float, so a vector compares LANES of them */
                for (int64_t i = 0; i < rows; i++) {
                    float *restrict probability = p + i * n_up, *restrict gradient = ds + i * n_up, dot = 0.0f;
                    int begin = max(0, first + i - task->window + 1), end = min(n, first + i + task->window);
                    int64_t at = (start + first + i) * task->heads + head;
                    uint32_t drop_key = row_key(task->seed, at);
                    float largest = statistics[2 * at], inverse_sum = statistics[2 * at + 1];
                    if (task->threshold) {
#pragma omp simd reduction(+ : dot)
                        for (int j = 0; j < columns; j++) {
                            float one = exponential(probability[j] - largest) * inverse_sum;
                            one = j >= begin && j < end ? one : 0.0f;
                            float factor = dropout_scale(drop_key, j, task->threshold, kept_scale);
                            dot += one * factor * gradient[j];
                            gradient[j] = one * factor * gradient[j];
                            probability[j] = one;
                        }
#pragma omp simd
                        for (int j = 0; j < columns; j++) {
                            gradient[j] -= probability[j] * dot;
                            probability[j] *= dropout_scale(drop_key, j, task->threshold, kept_scale);
                        }
                    } else {
#pragma omp simd reduction(+ : dot)
                        for (int j = 0; j < columns; j++) {
                            float one = exponential(probability[j] - largest) * inverse_sum;
                            one = j >= begin && j < end ? one : 0.0f;
                            dot += one * gradient[j];
                            probability[j] = one;
                        }
#pragma omp simd
                        for (int j = 0; j < columns; j++)
                            gradient[j] = probability[j] * (gradient[j] - dot);
                    }
                }
                /* p now holds p f, and ds holds d_scores. The first block sets dv and dk, later ones add to them. */
                multiply(dv, width_up, p, 1, n_up, d_o, width_up, n_up, width_up, rows, first > 0);
                multiply(dk, width_up, ds, 1, n_up, q, width_up, n_up, width_up, rows, first > 0);
                multiply(dq, width_up, ds, n_up, 1, k, width_up, rows_up, width_up, n, 0);
                store_rows(*d_query, dq, head, start + first, rows, task->width, task->scaling);
            }
            store_rows(*d_key, dk, head, start, n, task->width, 1.0f);
            store_rows(*d_value, dv, head, start, n, task->width, 1.0f);
        }
    }
    free(workspace);
    return 0;
}

/* Dropout, GELU, and dropout + residual + layer norm. */

/* y = x with elements dropped, (rows, width). The backward is the same call on the gradient. */
void dropout(const T *restrict x, T *restrict y, int64_t rows, int64_t width, uint32_t threshold, uint64_t seed,
             int64_t threads)
{
    float kept_scale = kept_scale_of(threshold);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < rows; i++) {
        uint32_t key = row_key(seed, i);
        const T *in = x + i * width;
        T *out = y + i * width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            out[j] = store(load(in[j]) * dropout_scale(key, j, threshold, kept_scale));
    }
}

/* The cumulative normal distribution at x, by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7), and the
 * density at x, which shares its exponential. */
static inline float normal_cdf(float x, float *density)
{
    float z = fabsf(x) * 0.70710678f, e = exponential(-z * z), t = 1.0f / (1.0f + 0.3275911f * z);
    float y = 1.061405429f; /* a polynomial in t; erfc(z) is y t e */
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    float upper_tail = 0.5f * y * t * e;
    *density = 0.39894228f * e;
    return x < 0.0f ? upper_tail : 1.0f - upper_tail;
}

/* y = GELU(x) = x * cdf(x), and slope, its derivative: cdf(x) + x * density(x). The backward multiplies by it, which is
 * cheaper than computing both exponentials again. */
void gelu(const T *restrict x, T *restrict y, T *restrict slope, int64_t n, int64_t threads)
{
#pragma omp parallel for simd num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        float value = load(x[i]), density, cdf = normal_cdf(value, &density);
        y[i] = store(value * cdf);
        slope[i] = store(cdf + value * density);
    }
}

/* sum = residual + dropout(x); y = layer_norm(sum). (rows, width). statistics (rows, 2): mean and 1 / deviation, which
 * the backward needs. The sum is rounded to T before the statistics are taken, as PyTorch's separate operations do. */
void add_and_norm(const T *restrict x, const T *restrict residual, const T *restrict weight, const T *restrict bias,
                  T *restrict sum, T *restrict y, float *restrict statistics, int64_t rows, int64_t width,
                  float epsilon, uint32_t threshold, uint64_t seed, int64_t threads)
{
    float kept_scale = kept_scale_of(threshold);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < rows; i++) {
        const T *x_row = x + i * width, *residual_row = residual + i * width;
        T *sum_row = sum + i * width, *y_row = y + i * width;
        uint32_t key = row_key(seed, i);
        float total = 0.0f, squares = 0.0f;
        if (threshold) {
#pragma omp simd reduction(+ : total)
            for (int64_t j = 0; j < width; j++) {
                float factor = dropout_scale(key, j, threshold, kept_scale);
                sum_row[j] = store(load(residual_row[j]) + load(x_row[j]) * factor);
                total += load(sum_row[j]);
            }
        } else {
#pragma omp simd reduction(+ : total)
            for (int64_t j = 0; j < width; j++) {
                sum_row[j] = store(load(residual_row[j]) + load(x_row[j]));
                total += load(sum_row[j]);
            }
        }
        float mean = total / width;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < width; j++)
            squares += (load(sum_row[j]) - mean) * (load(sum_row[j]) - mean);
        float inverse_deviation = 1.0f / sqrtf(squares / width + epsilon);
        statistics[2 * i] = mean;
        statistics[2 * i + 1] = inverse_deviation;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            y_row[j] = store((load(sum_row[j]) - mean) * inverse_deviation * load(weight[j]) + load(bias[j]));
    }
}

/* The gradients of add_and_norm. With g = d_y * weight and n the normed sum, d_sum = (g - mean(g) - n mean(g n)) /
 * deviation. d_residual is d_sum, and d_x is d_sum after the forward's dropout. d_parameters is a workspace of
 * (threads, 2, width): each thread sums the gradients of weight and bias over its rows into its own part, then all
 * parts are added to the first, which is the result. */
void add_and_norm_backward(const T *restrict d_y, const T *restrict sum, const float *restrict statistics,
                           const T *restrict weight, T *restrict d_x, T *restrict d_residual,
                           float *restrict d_parameters, int64_t rows, int64_t width, uint32_t threshold, uint64_t seed,
                           int64_t threads)
{
    float kept_scale = kept_scale_of(threshold);
    /* With schedule(static, 1) and a fixed division of rows, sums depend on the number of threads, never on timing. */
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t part = 0; part < threads; part++) {
        float *restrict d_weight = d_parameters + 2 * part * width, *restrict d_bias = d_weight + width;
        memset(d_weight, 0, 2 * width * sizeof(float));
        for (int64_t i = rows * part / threads; i < rows * (part + 1) / threads; i++) {
            const T *d_y_row = d_y + i * width, *sum_row = sum + i * width;
            T *restrict d_x_row = d_x + i * width, *restrict d_residual_row = d_residual + i * width;
            uint32_t key = row_key(seed, i);
            float mean = statistics[2 * i], inverse_deviation = statistics[2 * i + 1], total = 0.0f, projection = 0.0f;
#pragma omp simd reduction(+ : total, projection)
            for (int64_t j = 0; j < width; j++) {
                float normed = (load(sum_row[j]) - mean) * inverse_deviation, gradient = load(d_y_row[j]);
                d_weight[j] += gradient * normed;
                d_bias[j] += gradient;
                total += gradient * load(weight[j]);
                projection += gradient * load(weight[j]) * normed;
            }
            total /= width; /* mean(g) */
            projection /= width; /* mean(g n) */
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                float normed = (load(sum_row[j]) - mean) * inverse_deviation;
                float gradient = inverse_deviation * (load(d_y_row[j]) * load(weight[j]) - total - normed * projection);
                d_residual_row[j] = store(gradient);
                if (threshold) /* else d_x and d_residual are one tensor */
                    d_x_row[j] = store(gradient * dropout_scale(key, j, threshold, kept_scale));
            }
        }
    }
    for (int64_t part = 1; part < threads; part++)
        for (int64_t j = 0; j < 2 * width; j++)
            d_parameters[j] += d_parameters[2 * part * width + j];
}

/* The norm of all gradients, and the AdamW update. */

/* A chunk of a parameter. The dtype CHUNK in bindings.py has the same fields in the same order. */
typedef struct {
    float *weight, *exp_avg, *exp_avg_sq; /* master weight and its moments */
    const T *gradient;
    uint16_t *compute_weight; /* bf16 */
    int64_t n;
    double step, lr, weight_decay; /* step counts from 1, this update included */
} Chunk;

/* sums (chunks,): the sum of squares of each chunk's gradient, in float32, which is enough for one chunk. The caller
 * adds them up in double and in order, so the norm does not depend on the number of threads. */
void sums_of_squares(const Chunk *chunks, int64_t count, double *sums, int64_t threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < count; i++) {
        const T *restrict gradient = chunks[i].gradient;
        int64_t n = chunks[i].n;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
            sum += load(gradient[j]) * load(gradient[j]);
        sums[i] = sum;
    }
}

/* AdamW (Loshchilov and Hutter, 2019), as PyTorch's fused version computes it, with gradients times `factor`. The
 * new weight is also stored in bf16, for the model to compute with. */
void adamw(const Chunk *chunks, int64_t count, double beta1, double beta2, double epsilon, double factor,
           int64_t threads)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < count; i++) { /* chunks share no element, so their order does not matter */
        float *restrict weight = chunks[i].weight, *restrict exp_avg = chunks[i].exp_avg;
        float *restrict exp_avg_sq = chunks[i].exp_avg_sq;
        const T *restrict gradient = chunks[i].gradient;
        uint16_t *restrict compute_weight = chunks[i].compute_weight;
        /* Bias corrections in double, then float for the loop. */
        float step_size = chunks[i].lr / (1.0 - pow(beta1, chunks[i].step));
        float correction = sqrt(1.0 - pow(beta2, chunks[i].step));
        float decay = 1.0 - chunks[i].lr * chunks[i].weight_decay, epsilon_ = epsilon, factor_ = factor;
        float one_minus_beta1 = 1.0 - beta1, beta2_ = beta2, one_minus_beta2 = 1.0 - beta2;
        int64_t n = chunks[i].n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float g = load(gradient[j]) * factor_;
            exp_avg[j] += one_minus_beta1 * (g - exp_avg[j]);
            exp_avg_sq[j] = beta2_ * exp_avg_sq[j] + one_minus_beta2 * g * g;
            weight[j] = decay * weight[j] - step_size * exp_avg[j] / (sqrtf(exp_avg_sq[j]) / correction + epsilon_);
            compute_weight[j] = round_to_bf16(weight[j]);
        }
    }
}

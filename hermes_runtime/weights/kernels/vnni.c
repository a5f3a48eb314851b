/* y = x w for AWQ weights of 4 bits, on CPUs with AVX-512 VNNI; and, below, for the logits' bfloat16 weights.
 *
 * A row of x is rounded, group by group, to 16-bit integers, each written as 256 * coarse + fine with signed bytes.
 * VPDPBUSD multiplies unsigned bytes (codes, 0..15) with signed ones and adds four products to a 32-bit lane, so two of
 * them are the exact product with 16 bits. Scales and zero points are applied in float32, once a group.
 *
 * A row's result depends on that row alone: how many others there are, and how many threads, changes no bit of it.
 *
 *   x        float [m, k]
 *   weights  bytes [n/16, k/8, 16, 4]: byte (c, i) holds row 8*e + i of column c in its low and row 8*e + 4 + i in its
 *            high four bits
 *   pairs    float [n/16, k/group, 2, 16]: the scale, and minus scale times zero point, of 16 columns
 *   y        float [m, n]
 *
 * n is a multiple of 16, group of 8 and at most 2^16, k of group.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define UNROLL _Pragma("GCC unroll 16")
#define LANES 16       /* columns of a block */
#define TILE 8         /* rows that share a decoded weight */
#define STRIP 4        /* blocks that a thread takes at a time; they stay in its cache for all rows */
#define AHEAD 2048     /* bytes; hides the latency of memory */
#define LARGEST 32512  /* 127 * 256: both bytes of a larger number would not fit */

/* Adds the products of codes with four digits, the same in all lanes, to a sum. With the intrinsic gcc 12 loads the
 * digits by an instruction of their own and moves registers about, which takes a fifth longer. */
#define ADD(SUM, CODES, DIGITS) __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(SUM) : "v"(CODES), "m"(DIGITS))

/* ROWS rows of x times BLOCKS blocks of weights. The accumulators and a decoded weight fill the 32 registers. */
#define KERNEL(ROWS, BLOCKS)                                                                                          \
  static void rows##ROWS##_blocks##BLOCKS(const int32_t *restrict digits, const float *restrict steps, long k,        \
                                          long group, const uint8_t *restrict weights, const float *restrict pairs,   \
                                          float *restrict y, long n) {                                                \
    const long groups = k / group, eights = group / 8;                                                                \
    const __m512i low = _mm512_set1_epi8(15);                                                                         \
    __m512 sum[BLOCKS][ROWS];                                                                                         \
    UNROLL for (int b = 0; b < BLOCKS; b++) UNROLL for (int r = 0; r < ROWS; r++) sum[b][r] = _mm512_setzero_ps();    \
    for (long g = 0; g < groups; g++) {                                                                               \
      __m512i coarse[BLOCKS][ROWS], fine[BLOCKS][ROWS];                                                               \
      UNROLL for (int b = 0; b < BLOCKS; b++) UNROLL for (int r = 0; r < ROWS; r++)                                   \
          coarse[b][r] = fine[b][r] = _mm512_setzero_si512();                                                         \
      for (long e = g * eights; e < (g + 1) * eights; e++) {                                                          \
        const int32_t *d = digits + e * 4 * ROWS;                                                                     \
        UNROLL for (int b = 0; b < BLOCKS; b++) {                                                                     \
          const uint8_t *from = weights + (b * (k / 8) + e) * 64;                                                     \
          _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);                                                      \
          const __m512i packed = _mm512_loadu_si512(from);                                                            \
          const __m512i first = _mm512_and_si512(packed, low);                                                        \
          const __m512i second = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low);                                 \
          UNROLL for (int r = 0; r < ROWS; r++) {                                                                     \
            ADD(coarse[b][r], first, d[2 * r]);                                                                       \
            ADD(fine[b][r], first, d[2 * r + 1]);                                                                     \
          }                                                                                                           \
          UNROLL for (int r = 0; r < ROWS; r++) {                                                                     \
            ADD(coarse[b][r], second, d[2 * (ROWS + r)]);                                                             \
            ADD(fine[b][r], second, d[2 * (ROWS + r) + 1]);                                                           \
          }                                                                                                           \
        }                                                                                                             \
      }                                                                                                               \
      UNROLL for (int b = 0; b < BLOCKS; b++) {                                                                       \
        const float *of = pairs + (b * groups + g) * 2 * LANES;                                                       \
        const __m512 scale = _mm512_loadu_ps(of), offset = _mm512_loadu_ps(of + LANES);                               \
        UNROLL for (int r = 0; r < ROWS; r++) {                                                                       \
          const float *step = steps + (g * ROWS + r) * 2;                                                             \
          const __m512 product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(coarse[b][r]), _mm512_set1_ps(256.0f),            \
                                                 _mm512_cvtepi32_ps(fine[b][r]));                                     \
          sum[b][r] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale, _mm512_set1_ps(step[0])), sum[b][r]);             \
          sum[b][r] = _mm512_fmadd_ps(offset, _mm512_set1_ps(step[1]), sum[b][r]);                                    \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    UNROLL for (int b = 0; b < BLOCKS; b++) UNROLL for (int r = 0; r < ROWS; r++)                                     \
        _mm512_storeu_ps(y + r * n + b * LANES, sum[b][r]);                                                           \
  }

KERNEL(1, 1) KERNEL(2, 1) KERNEL(3, 1) KERNEL(4, 1) KERNEL(5, 1) KERNEL(6, 1) KERNEL(7, 1) KERNEL(8, 1)
KERNEL(1, 4) KERNEL(2, 4) KERNEL(3, 2) KERNEL(4, 2)

typedef void (*kernel)(const int32_t *, const float *, long, long, const uint8_t *, const float *, float *, long);

static const kernel SINGLE[TILE + 1] = {0, rows1_blocks1, rows2_blocks1, rows3_blocks1, rows4_blocks1,
                                        rows5_blocks1, rows6_blocks1, rows7_blocks1, rows8_blocks1};
/* A few rows take several blocks at once: one accumulator alone would wait for itself. */
static const kernel WIDE[TILE + 1] = {0, rows1_blocks4, rows2_blocks4, rows3_blocks2, rows4_blocks2};
static const int WIDTH[TILE + 1] = {1, 4, 4, 2, 2, 1, 1, 1, 1};

/* Rounds group g of some rows. digits int32 [k/4, rows, 2]: four coarse bytes, four fine ones; steps float [groups,
 * rows, 2]: the value of one unit, and the sum of the rounded group. */
static void round_group(const float *restrict x, long k, long group, long g, int rows, int32_t *restrict digits,
                        float *restrict steps) {
  const __m512 endless = _mm512_set1_ps(INFINITY);
  for (int r = 0; r < rows; r++) {
    const float *from = x + r * k + g * group;
    __m512 most = _mm512_setzero_ps();
    __mmask16 strange = 0;
    for (long i = 0; i < group; i += LANES) {
      const __m512 size = _mm512_abs_ps(_mm512_maskz_loadu_ps(group - i < LANES ? 0xff : 0xffff, from + i));
      most = _mm512_max_ps(most, size);
      strange |= _mm512_cmp_ps_mask(size, endless, _CMP_NLT_UQ);
    }
    /* Infinities and NaN must not pass for numbers; the tiniest groups count as zero. */
    const float largest = strange ? 0 : _mm512_reduce_max_ps(most);
    const int is_zero = largest < 1e-30f;
    const __m512 units = _mm512_set1_ps(is_zero ? 0 : LARGEST / largest);
    __m512i total = _mm512_setzero_si512();
    int32_t *to = digits + (g * (group / 4) * rows + r) * 2;
    for (long i = 0; i < group; i += LANES) {
      const __mmask16 there = is_zero ? 0 : group - i < LANES ? 0xff : 0xffff;
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(there, from + i), units));
      const __m512i fine = _mm512_srai_epi32(_mm512_slli_epi32(whole, 24), 24);
      const __m128i high = _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_sub_epi32(whole, fine), 8));
      const __m128i low = _mm512_cvtepi32_epi8(fine);
      const __m128i first = _mm_unpacklo_epi32(high, low), second = _mm_unpackhi_epi32(high, low);
      total = _mm512_add_epi32(total, whole);
      _mm_storel_epi64((__m128i *)to, first);
      _mm_storeh_pd((double *)(to + 2 * rows), _mm_castsi128_pd(first));
      if (group - i >= LANES) {
        _mm_storel_epi64((__m128i *)(to + 4 * rows), second);
        _mm_storeh_pd((double *)(to + 6 * rows), _mm_castsi128_pd(second));
      }
      to += 8 * rows;
    }
    float *step = steps + (g * rows + r) * 2;
    step[0] = is_zero ? 0 : largest / LARGEST;
    step[1] = strange ? NAN : step[0] * (float)_mm512_reduce_add_epi32(total);
  }
}

/* Returns 0, or 1 where memory ran out. */
int hermes_int4_product(const float *x, long m, long k, long group, const uint8_t *weights, const float *pairs, float *y,
                        long n, int threads) {
  const long groups = k / group, blocks = n / LANES;
  int32_t *digits = malloc((size_t)m * k * 2);
  float *steps = malloc((size_t)m * groups * 2 * sizeof(float));
  if (!digits || !steps) {
    free(digits);
    free(steps);
    return 1;
  }
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (long g = 0; g < groups; g++)
      for (long i = 0; i < m; i += TILE)
        round_group(x + i * k, k, group, g, m - i < TILE ? (int)(m - i) : TILE, digits + i * k / 2,
                    steps + i * groups * 2);
#pragma omp for schedule(static)
    for (long strip = 0; strip < blocks; strip += STRIP) {
      const long end = strip + STRIP < blocks ? strip + STRIP : blocks;
      for (long i = 0; i < m; i += TILE) {
        const int rows = m - i < TILE ? (int)(m - i) : TILE;
        long b = strip;
        while (b < end) {
          const int width = b + WIDTH[rows] <= end ? WIDTH[rows] : 1;
          const kernel product = width > 1 ? WIDE[rows] : SINGLE[rows];
          product(digits + i * k / 2, steps + i * groups * 2, k, group, weights + b * k * 8,
                  pairs + b * groups * 2 * LANES, y + i * n + b * LANES, n);
          b += width;
        }
      }
    }
  }
  free(digits);
  free(steps);
  return 0;
}

/* Rows of x times four rows of a bfloat16 matrix; all of a bfloat16 is the upper half of a float. */
#define DENSE(ROWS)                                                                                                   \
  static void dense_rows##ROWS(const float *restrict x, long k, const uint16_t *restrict weights, float *restrict y,  \
                               long n) {                                                                              \
    __m512 sum[4][ROWS];                                                                                              \
    UNROLL for (int c = 0; c < 4; c++) UNROLL for (int r = 0; r < ROWS; r++) sum[c][r] = _mm512_setzero_ps();         \
    for (long i = 0; i < k; i += LANES) {                                                                             \
      UNROLL for (int c = 0; c < 4; c++) {                                                                            \
        const uint16_t *from = weights + c * k + i;                                                                   \
        _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);                                                        \
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));                        \
        const __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));                                            \
        UNROLL for (int r = 0; r < ROWS; r++)                                                                         \
            sum[c][r] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x + r * k + i), sum[c][r]);                                \
      }                                                                                                               \
    }                                                                                                                 \
    UNROLL for (int c = 0; c < 4; c++) UNROLL for (int r = 0; r < ROWS; r++)                                          \
        y[r * n + c] = _mm512_reduce_add_ps(sum[c][r]);                                                               \
  }

DENSE(1) DENSE(2) DENSE(3) DENSE(4)

/* y float [m, n] = x float [m, k] times weights bfloat16 [n, k] transposed; n is a multiple of 4, k of 16. */
void hermes_bfloat16_product(const float *x, long m, long k, const uint16_t *weights, float *y, long n, int threads) {
  static void (*const OF_ROWS[])(const float *, long, const uint16_t *, float *, long) = {0, dense_rows1, dense_rows2,
                                                                                           dense_rows3, dense_rows4};
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long c = 0; c < n; c += 4)
    for (long i = 0; i < m; i += 4)
      OF_ROWS[m - i < 4 ? m - i : 4](x + i * k, k, weights + c * k, y + i * n + c, n);
}

/* The 16 codes of two AWQ words, a byte each, in the order of their columns. A word's bytes hold columns (0, 2), (4, 6),
 * (1, 3), (5, 7), the first of each in the low four bits. */
static __m128i codes_of(const uint32_t *words) {
  const __m128i order = _mm_setr_epi8(0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15);
  const __m128i both = _mm_loadl_epi64((const __m128i *)words), low = _mm_set1_epi8(15);
  const __m128i halves = _mm_unpacklo_epi64(_mm_and_si128(both, low), _mm_and_si128(_mm_srli_epi16(both, 4), low));
  return _mm_shuffle_epi8(halves, order);
}

/* AWQ words int32 [k, n/8] -> weights, as above. */
void hermes_int4_pack(const uint32_t *words, long k, long n, uint8_t *weights) {
  const long width = n / 8;
  for (long e = 0; e < k / 8; e++)
    for (long b = 0; b < n / LANES; b++) {
      const uint32_t *from = words + e * 8 * width + b * 2;
      __m128i row[4];
      for (int i = 0; i < 4; i++)
        row[i] = _mm_or_si128(codes_of(from + i * width), _mm_slli_epi16(codes_of(from + (i + 4) * width), 4));
      const __m128i first[2] = {_mm_unpacklo_epi8(row[0], row[1]), _mm_unpackhi_epi8(row[0], row[1])};
      const __m128i second[2] = {_mm_unpacklo_epi8(row[2], row[3]), _mm_unpackhi_epi8(row[2], row[3])};
      __m128i *to = (__m128i *)(weights + (b * (k / 8) + e) * 64);
      for (int half = 0; half < 2; half++) {
        _mm_storeu_si128(to + 2 * half, _mm_unpacklo_epi16(first[half], second[half]));
        _mm_storeu_si128(to + 2 * half + 1, _mm_unpackhi_epi16(first[half], second[half]));
      }
    }
}

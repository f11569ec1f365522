// Vectors of sixteen numbers, and products of a matrix with a few vectors, its rows read once.
//
// Weights are float32, bfloat16, or int8 with a scale for each row; all sums are in float32, and what one vector gives
// does not depend on the others.

#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define EVERY _Pragma("GCC unroll 16") for

typedef int64_t Int;
typedef float V __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint16_t Half16 __attribute__((vector_size(32)));
typedef uint32_t Word16 __attribute__((vector_size(64)));
typedef int8_t Byte16 __attribute__((vector_size(16)));
constexpr Int LANES = 16;  // numbers in a vector

enum Kind { FLOAT32, BFLOAT16, INT8 };
enum Activation { GELU, GELU_TANH, RELU, SILU };

extern "C" { struct Matrix { const void* weight; const float* scale; const float* bias; Int rows, columns; int32_t kind; }; }

struct bfloat { uint16_t bits; };

static inline float wide(float x) { return x; }
static inline float wide(int8_t x) { return x; }
static inline float wide(bfloat x) {
    uint32_t word = uint32_t(x.bits) << 16;
    float out;
    std::memcpy(&out, &word, 4);
    return out;
}
static inline void narrow(float x, float* out) { *out = x; }
static inline void narrow(float x, bfloat* out) {  // to nearest, ties to even
    uint32_t word;
    std::memcpy(&word, &x, 4);
    out->bits = x != x ? 0x7fc0 : (word + 0x7fff + ((word >> 16) & 1)) >> 16;
}
template <class T> static inline T take(const void* from) { T x; std::memcpy(&x, from, sizeof x); return x; }
static inline V load(const float* x) { return take<V>(x); }
#ifdef __AVX512F__  // the same as below, which gcc 12 turns into many times as many instructions
static inline V load(const bfloat* x) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(take<__m256i>(x)), 16); }
static inline V load(const int8_t* x) { return (V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(take<__m128i>(x))); }
#else
static inline V load(const bfloat* x) { return (V)(__builtin_convertvector(take<Half16>(x), Word16) << 16); }
static inline V load(const int8_t* x) {
    return __builtin_convertvector(__builtin_convertvector(take<Byte16>(x), I), V);
}
#endif
static inline void store(float* out, V x) { std::memcpy(out, &x, sizeof x); }
static inline V all(float x) { return V{} + x; }

// Lanes of x and y in turn, in runs of S, each added to its partner S lanes away.
template <int S> static inline V join(V x, V y);
#define JOIN(S, ...) \
    template <> inline V join<S>(V x, V y) { \
        const I own = {__VA_ARGS__}; \
        I lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; \
        return SHUFFLE(x, y, lane + own * 16) + SHUFFLE(x, y, (lane ^ S) + own * 16); \
    }
#ifdef __clang__
static inline V pick(V x, V y, I from) {
    V out;
    for (int i = 0; i < 16; i++) out[i] = from[i] < 16 ? x[from[i]] : y[from[i] - 16];
    return out;
}
#define SHUFFLE pick
#else
#define SHUFFLE __builtin_shuffle
#endif
JOIN(1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1)
JOIN(2, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1)
JOIN(4, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1)
JOIN(8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)

// Sums of N vectors, N a power of two up to 16: lane n holds that of the nth. The order of adding is the same for all N.
template <int N> static inline V sums(V (&x)[N]) {
    EVERY(int i = 0; i < (N + 1) / 2; i++) x[i] = N >= 2 ? join<1>(x[2 * i], x[(2 * i + 1) % N]) : join<1>(x[0], x[0]);
    EVERY(int i = 0; i < (N + 3) / 4; i++) x[i] = N >= 4 ? join<2>(x[2 * i], x[(2 * i + 1) % N]) : join<2>(x[0], x[0]);
    EVERY(int i = 0; i < (N + 7) / 8; i++) x[i] = N >= 8 ? join<4>(x[2 * i], x[(2 * i + 1) % N]) : join<4>(x[0], x[0]);
    return N >= 16 ? join<8>(x[0], x[1 % N]) : join<8>(x[0], x[0]);
}
static inline float sum(V x) { V one[1] = {x}; return sums(one)[0]; }

static inline V choose(I mask, V x, V y) { return (V)(((I)x & mask) | ((I)y & ~mask)); }
static inline V expv(V x) {  // 2^whole times the series of e^rest, within 2 units in the last place
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    V whole = x * 1.44269504f, magic = all(12582912.0f);
    whole = (whole + magic) - magic;
    V r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    V p = ((((r * 1.9875691e-4f + 1.3981999e-3f) * r + 8.3334519e-3f) * r + 4.1665796e-2f) * r + 0.16666665f) * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return p * (V)((__builtin_convertvector(whole, I) + 127) << 23);
}
static inline V erfv(V x) {  // Abramowitz and Stegun 7.1.26: within 1.5e-7
    V size = choose(x < 0.0f, -x, x), t = 1.0f / (1.0f + 0.3275911f * size);
    V series = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    V y = 1.0f - series * expv(-size * size);
    return choose(x < 0.0f, -y, y);
}
static inline V activate(V x, int32_t kind) {
    if (kind == RELU) return choose(x < 0.0f, V{}, x);
    if (kind == SILU) return x / (1.0f + expv(-x));
    if (kind == GELU) return 0.5f * x * (1.0f + erfv(x * 0.70710678f));
    return x / (1.0f + expv(-1.59576912f * (x + 0.044715f * x * x * x)));  // the logistic function is (1 + tanh) / 2
}

// What a product of weights W takes in: numbers of type X, STEP at a time.
template <class W> struct Of {
    typedef float X;
    typedef V Part;
    static constexpr Int STEP = LANES;
    static Part row(const W* w) { return load(w); }
    static Part own(const X* x) { return load(x); }
    static V add(V total, Part row, Part own) { return total + row * own; }
};
#ifdef __AVX512BF16__  // pairs of bfloat16, of which the processor multiplies twice as many at once
template <> struct Of<bfloat> {
    typedef bfloat X;
    typedef __m512bh Part;
    static constexpr Int STEP = 2 * LANES;
    static Part row(const bfloat* w) { return take<Part>(w); }
    static Part own(const X* x) { return take<Part>(x); }
    static V add(V total, Part row, Part own) { return (V)_mm512_dpbf16_ps((__m512)total, row, own); }
};
template <> struct Of<int8_t> : Of<bfloat> {  // -127 to 127 are exact in bfloat16
    static Part row(const int8_t* w) { return _mm512_cvtne2ps_pbh((__m512)load(w + LANES), (__m512)load(w)); }
};
#endif

// N rows of a matrix against B sequences: out[n * B + b].
template <class W, int N, int B>
static inline void dot(const W* w, Int columns, const typename Of<W>::X* x, float* out) {
    typedef Of<W> P;
    V total[N * B];
    EVERY(int i = 0; i < N * B; i++) total[i] = V{};
    Int even = columns / P::STEP * P::STEP;
    for (Int i = 0; i < even; i += P::STEP) {
        typename P::Part row[N];
        EVERY(int n = 0; n < N; n++) {
            row[n] = P::row(w + n * columns + i);
            __builtin_prefetch(w + (n + N) * columns + i);
        }
        EVERY(int b = 0; b < B; b++) {
            typename P::Part own = P::own(x + b * columns + i);
            EVERY(int n = 0; n < N; n++) total[n * B + b] = P::add(total[n * B + b], row[n], own);
        }
    }
    store(out, sums(total));
    for (Int i = even; i < columns; i++)
        for (int n = 0; n < N; n++)
            for (int b = 0; b < B; b++) out[n * B + b] += wide(w[n * columns + i]) * wide(x[b * columns + i]);
}

template <class W, int N, int B, class Out>
static void some_rows(const Matrix& m, Int from, Int to, const typename Of<W>::X* x, Int first, const Out& out) {
    const W* w = (const W*)m.weight;
    float found[LANES];
    Int row = from;
    for (; row + N <= to; row += N) {
        dot<W, N, B>(w + row * m.columns, m.columns, x + first * m.columns, found);
        for (int n = 0; n < N; n++) {
            float scale = m.scale ? m.scale[row + n] : 1, bias = m.bias ? m.bias[row + n] : 0;
            for (int b = 0; b < B; b++) out(first + b, row + n, found[n * B + b] * scale + bias);
        }
    }
    if constexpr (N > 1) some_rows<W, 1, B>(m, row, to, x, first, out);
}

template <class W, class Out>
static void rows_of(const Matrix& m, Int from, Int to, const typename Of<W>::X* x, Int sequences, const Out& out) {
    Int b = 0;
    for (; b + 4 <= sequences; b += 4) some_rows<W, 4, 4>(m, from, to, x, b, out);
    if (sequences - b >= 2) some_rows<W, 4, 2>(m, from, to, x, b, out), b += 2;
    if (sequences - b >= 1) some_rows<W, 8, 1>(m, from, to, x, b, out);
}

// What a phase leaves for a matrix product: float32, and the same rounded to bfloat16, which most products take in.
struct Values {
    float* wide;
    bfloat* half;
    Values at(Int place) const { return {wide + place, half + place}; }
    void round(Int count) const { for (Int i = 0; i < count; i++) narrow(wide[i], half + i); }
    operator const float*() const { return wide; }
    operator const bfloat*() const { return half; }
};

// Rows [from, to) of m x for all sequences, x (sequences, columns); `out` is given (sequence, row, value).
template <class Out> static void rows(const Matrix& m, Int from, Int to, const Values& x, Int sequences, const Out& out) {
    if (m.kind == FLOAT32) rows_of<float>(m, from, to, x, sequences, out);
    else if (m.kind == BFLOAT16) rows_of<bfloat>(m, from, to, x, sequences, out);
    else rows_of<int8_t>(m, from, to, x, sequences, out);
}

template <class Part> static float total(const float* x, Int size, const Part& part) {
    Int even = size / LANES * LANES;
    V whole = {};
    for (Int i = 0; i < even; i += LANES) whole += part(load(x + i));
    float found = sum(whole);
    for (Int i = even; i < size; i++) found += part(all(x[i]))[0];
    return found;
}

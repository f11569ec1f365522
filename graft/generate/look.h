// What is done to one vector, or one head of queries: normalizing, turning, looking at keys and values, choosing experts.

#include "products.h"

extern "C" { struct Norm { const float *weight, *bias; }; }

static void normalize(bool rms, float eps, const Norm& norm, const float* x, float* out, Int size) {
    float centre = rms ? 0 : total(x, size, [](V v) { return v; }) / size;
    float square = total(x, size, [=](V v) { return (v - centre) * (v - centre); });
    float factor = 1 / std::sqrt(square / size + eps);
    for (Int i = 0; i < size; i++) {
        float y = (x[i] - centre) * factor * norm.weight[i];
        out[i] = norm.bias ? y + norm.bias[i] : y;
    }
}

static void turn(const float* turns, Int half, Int position, float* x) {  // rotary: pairs (k, k + K/2)
    for (Int k = 0; k < half; k++) {
        float angle = float(position) * turns[k], c = std::cos(angle), s = std::sin(angle);
        float first = x[k], second = x[k + half];
        x[k] = first * c - second * s;
        x[k + half] = second * c + first * s;
    }
}

// One head of queries against places [from, to) of the cache; `bias`, where there is one, is added to the scores of all
// places. `scores` holds (to - from) rounded up to 16.
template <class C>
static void look(const C* keys, const C* values, Int place, Int from, Int to, Int size, const float* q, const float* bias, float* scores, float* out) {
    Int count = to - from, even = size / LANES * LANES;
    V most = all(-INFINITY);
    for (Int i = 0; i < count; i += LANES) {
        V total[16] = {};
        Int some = count - i < LANES ? count - i : LANES;
        for (Int n = 0; n < some; n++)
            for (Int k = 0; k < even; k += LANES) total[n] += load(keys + (from + i + n) * place + k) * load(q + k);
        V found = sums<16>(total);
        if (bias) found += load(bias + from + i);
        for (Int n = 0; n < LANES; n++) {
            if (n >= some) { found[n] = -INFINITY; continue; }
            for (Int k = even; k < size; k++) found[n] += wide(keys[(from + i + n) * place + k]) * q[k];
        }
        most = choose(found > most, found, most);
        store(scores + i, found);
    }
    float highest = most[0];
    for (int n = 1; n < LANES; n++) highest = most[n] > highest ? most[n] : highest;
    V whole = {};
    for (Int i = 0; i < count; i += LANES) {
        V weight = load(scores + i);
        weight = choose(weight == -INFINITY, V{}, expv(weight - highest));
        whole += weight;
        store(scores + i, weight);
    }
    float share = 1.0f / sum(whole);
    for (Int k = 0; k < even; k += 4 * LANES) {
        Int parts = (even - k) / LANES < 4 ? (even - k) / LANES : 4;
        V total[4] = {};
        for (Int i = 0; i < count; i++) {
            const C* row = values + (from + i) * place + k;
            if (parts == 4) for (int n = 0; n < 4; n++) total[n] += scores[i] * load(row + n * LANES);
            else for (Int n = 0; n < parts; n++) total[n] += scores[i] * load(row + n * LANES);
        }
        for (Int n = 0; n < parts; n++) store(out + k + n * LANES, total[n] * share);
    }
    for (Int k = even; k < size; k++) {
        float total = 0;
        for (Int i = 0; i < count; i++) total += scores[i] * wide(values[(from + i) * place + k]);
        out[k] = total * share;
    }
}

// A router's scores of experts become the shares of those chosen, and -1 for the others.
static void choose_experts(float* score, Int count, Int chosen, bool normalized) {
    float most = score[0], whole = 0, kept = 0;
    for (Int e = 0; e < count; e++) most = score[e] > most ? score[e] : most;
    for (Int e = 0; e < count; e++) whole += score[e] = std::exp(score[e] - most);
    if (!(whole < INFINITY)) {  // what is no number stays none
        for (Int e = 0; e < count; e++) score[e] = e < chosen ? NAN : -1;
        return;
    }
    for (Int n = 0; n < chosen; n++) {  // marked by their sign
        Int best = -1;
        for (Int e = 0; e < count; e++)
            if (!std::signbit(score[e]) && (best < 0 || score[e] > score[best])) best = e;
        kept += score[best];
        score[best] = -score[best];
    }
    for (Int e = 0; e < count; e++) score[e] = std::signbit(score[e]) ? -score[e] / (normalized ? kept : whole) : -1;
}

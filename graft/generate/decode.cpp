// One new token for each of some sequences: a whole decoder in one call, reading every weight once.
//
// Built on the user's machine by graft/generate/native.py, where there is a compiler. Weights are read where the model
// keeps them. Work is handed out in chunks of rows, so that a core which is busy elsewhere does not hold up the rest.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "look.h"

extern "C" {
struct Dense { Matrix gate, up, down; };
struct Layer {
    Matrix query, key, value, output;
    Dense dense;  // or these, behind them one that all go through where it has a gate
    const Dense* expert;
    Matrix router, shared_gate;
    Norm attention_norm, feed_forward_norm, query_norm, key_norm;
    Matrix memory_query, memory_output;
    Norm memory_norm;
    Int window;
};
struct Model {
    Int layers, width, heads, key_heads, head_size, inner;  // inner: the widest
    Int through, experts, chosen;  // how many a token goes through, those that all do included
    int32_t pre, rms, activation, whole_norm, normalized;
    float eps, scale, head_scale;
    const Layer* layer;
    Matrix tokens, positions;
    Int position_offset;
    const float *type, *turns, *distance;  // distance: (heads, places), added to scores; the last is a token's own place
    Norm embedding_norm, final_norm;
    Matrix head;
};
struct Cache { void *keys, *values; Int slots, places, layer, slot, head, place; int32_t kind; };
struct Step {
    Int sequences;
    const Int *ids, *position, *slot, *source, *length;  // source: the memory's slot, of which length places are filled
    float *hidden, *logits, *work;
};
}

static inline void breathe() {  // tells the processor that this thread waits
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Threads that do steps together. A phase of a step is over when its chunks are done, not when all threads have come
// by: one that the machine gives no time holds nobody up, and skips what the others did without it.
struct Team {
    const Model m;
    const Cache cache, memory;
    const int threads;
    const pid_t owner = getpid();  // a forked process has the team without its threads, and works alone
    std::atomic<uint64_t> state{0};  // the number of the phase, and of the next chunk in its lower half
    std::atomic<Int> done{0};
    std::mutex one_step, telling;
    std::condition_variable told;
    std::atomic<uint64_t> steps{0};
    bool closing = false;
    Step step;
    uint32_t first = 0;
    std::vector<std::thread> others;

    Team(const Model& m, const Cache& cache, const Cache& memory, int threads) : m(m), cache(cache), memory(memory), threads(threads) {}

    template <class Work> void share(uint32_t& phase, Int count, Int chunk, const Work& work) {
        Int chunks = (count + chunk - 1) / chunk;
        for (int tries = 0;;) {
            uint64_t now = state.load(std::memory_order_acquire);
            if (uint32_t(now >> 32) != phase) break;
            Int from = Int(uint32_t(now)) * chunk;
            if (from >= count) {
                if (++tries < 1024) breathe(); else std::this_thread::yield();
            } else if (state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) {
                work(from, from + chunk < count ? from + chunk : count);
                if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < chunks) continue;
                done.store(0, std::memory_order_relaxed);
                state.store(uint64_t(phase + 1) << 32, std::memory_order_release);
                break;
            }
        }
        phase++;
    }
    Int chunk(Int rows) const {
        Int one = rows / (threads * 8) / LANES * LANES;
        return one < LANES ? LANES : one > 64 ? 64 : one;
    }
};

struct Run {  // one thread's part in one step
    Team& team;
    const Step step;
    uint32_t phase;
    const Model& m = team.m;
    const Cache &cache = team.cache, &memory = team.memory;
    Values x, y, mixed, inner, spread;
    float *q, *k, *v, *gate, *liking, *share_of, *scores;
    Int *goes, *expert, *first;  // of pairs of a sequence and an expert, sorted by experts: whose; of experts: which, from which pair on

    Run(Team& team, const Step& step, uint32_t phase, int thread) : team(team), step(step), phase(phase) {
        Int wide = m.heads * m.head_size, narrow = m.key_heads * m.head_size;
        float* at = step.work;
        auto floats = [&](Int size) { float* own = at; at += (size * step.sequences + 15) / 16 * 16; return own; };
        auto values = [&](Int size) { float* own = floats(size); return Values{own, (bfloat*)floats((size + 1) / 2)}; };
        x = values(m.width), y = values(m.width), mixed = values(wide), inner = values(m.inner * m.through), spread = values(m.experts ? m.width * m.through : 0);
        q = floats(wide), k = floats(narrow), v = floats(narrow), gate = floats(m.inner * m.through);
        liking = floats(m.experts + 1), share_of = floats(m.through);
        goes = (Int*)floats(2 * m.through), expert = (Int*)floats(2 * m.through), first = (Int*)floats(2 * m.through + 4);
        scores = at + thread * ((std::max(cache.places, memory.places) + 31) / 16 * 16);
    }

    template <class Work> void share(Int count, Int chunk, const Work& work) { team.share(phase, count, chunk, work); }
    void norms(const Norm& norm, const Values& from, const Values& to) {
        share(step.sequences, 1, [&](Int b, Int) {
            normalize(m.rms, m.eps, norm, from.wide + b * m.width, to.wide + b * m.width, m.width);
            to.at(b * m.width).round(m.width);
        });
    }
    void embed() {
        share(step.sequences, 1, [&](Int b, Int) {
            float* to = x.wide + b * m.width;
            auto add = [&](const Matrix& table, Int row, bool first) {
                for (Int i = 0; i < m.width; i++) {
                    Int at = row * m.width + i;
                    float one = table.kind == FLOAT32 ? ((const float*)table.weight)[at] : wide(((const bfloat*)table.weight)[at]);
                    to[i] = first ? one : to[i] + one;
                }
            };
            add(m.tokens, step.ids[b], true);
            if (m.positions.weight) add(m.positions, step.position[b] + m.position_offset, false);
            for (Int i = 0; m.type && i < m.width; i++) to[i] += m.type[i];
            if (m.embedding_norm.weight) normalize(m.rms, m.eps, m.embedding_norm, to, to, m.width);
            x.at(b * m.width).round(m.width);
        });
    }
    template <class Out> void product(const Matrix& matrix, const Values& from, const Out& out) {
        share(matrix.rows, team.chunk(matrix.rows), [&](Int first, Int last) { rows(matrix, first, last, from, step.sequences, out); });
    }
    template <class C> void attend(const Layer& layer, Int number) {
        Int group = m.heads / m.key_heads, size = m.head_size;
        share(step.sequences * m.key_heads, 1, [&](Int item, Int) {
            Int b = item / m.key_heads, g = item % m.key_heads, position = step.position[b];
            Int start = number * cache.layer + step.slot[b] * cache.slot + g * cache.head;
            C *keys = (C*)cache.keys + start, *values = (C*)cache.values + start;
            float *own = k + item * size, *queries = q + (b * m.heads + g * group) * size;
            bool normed = layer.query_norm.weight && !m.whole_norm;
            auto ready = [&](float* one, const Norm& norm) {
                if (normed) normalize(m.rms, m.eps, norm, one, one, size);
                if (m.turns) turn(m.turns, size / 2, position, one);
            };
            ready(own, layer.key_norm);
            for (Int i = 0; i < size; i++) {
                narrow(own[i], keys + position * cache.place + i);
                narrow(v[item * size + i], values + position * cache.place + i);
            }
            Int from = layer.window && position >= layer.window ? position + 1 - layer.window : 0;
            for (Int n = 0; n < group; n++) {
                float* one = queries + n * size;
                ready(one, layer.query_norm);
                for (Int i = 0; i < size; i++) one[i] *= m.scale;
                Values found = mixed.at((b * m.heads + g * group + n) * size);
                const float* bias = m.distance ? m.distance + (g * group + n + 1) * cache.places - position - 1 : nullptr;
                look(keys, values, cache.place, from, position + 1, size, one, bias, scores, found.wide);
                found.round(size);
            }
        });
    }
    template <class C> void recall(Int number) {  // those who look at the same come one after the other
        Int group = m.heads / m.key_heads, size = m.head_size;
        share(step.sequences * m.heads, 1, [&](Int item, Int) {
            Int head = item / step.sequences, b = item % step.sequences, at = (b * m.heads + head) * size;
            Int start = number * memory.layer + step.source[b] * memory.slot + head / group * memory.head;
            for (Int i = 0; i < size; i++) q[at + i] *= m.scale;
            Values found = mixed.at(at);
            look((C*)memory.keys + start, (C*)memory.values + start, memory.place, 0, step.length[b], size, q + at, nullptr, scores, found.wide);
            found.round(size);
        });
    }
    void queries_keys_values(const Layer& layer, const Values& from) {
        const Matrix* parts[] = {&layer.query, &layer.key, &layer.value};
        float* to[] = {q, k, v};
        Int total = layer.query.rows + layer.key.rows + layer.value.rows, chunk = team.chunk(total);
        share(total, chunk, [&](Int first, Int last) {
            Int base = 0;
            for (int n = 0; n < 3; base += parts[n++]->rows) {
                Int low = first > base ? first - base : 0, high = last - base < parts[n]->rows ? last - base : parts[n]->rows;
                if (low < high)
                    rows(*parts[n], low, high, from, step.sequences, [&](Int b, Int row, float value) { to[n][b * parts[n]->rows + row] = value; });
            }
        });
        if (!layer.query_norm.weight || !m.whole_norm) return;
        share(step.sequences, 1, [&](Int b, Int) {
            Int wide = layer.query.rows, narrow = layer.key.rows;
            normalize(m.rms, m.eps, layer.query_norm, q + b * wide, q + b * wide, wide);
            normalize(m.rms, m.eps, layer.key_norm, k + b * narrow, k + b * narrow, narrow);
        });
    }
    // Rows [low, high) of what lies between up and down, for some sequences; `at` is the first one's place in `inner`.
    void within(const Dense& dense, Int low, Int high, const Values& from, Int sequences, Int at) {
        Int count = dense.up.rows;
        Values to = inner.at(at * m.inner);
        float* act = dense.gate.weight ? gate + at * m.inner : to.wide;
        auto into = [&](float* to) { return [to, count](Int b, Int row, float value) { to[b * count + row] = value; }; };
        if (dense.gate.weight) rows(dense.gate, low, high, from, sequences, into(act));
        rows(dense.up, low, high, from, sequences, into(to.wide));
        for (Int b = 0; b < sequences; b++)
            for (Int i = low; i < high; i += LANES) {  // whole vectors, and no further than this chunk
                float part[LANES] = {}, *up = to.wide + b * count + i;
                Int some = (high - i < LANES ? high - i : LANES);
                std::memcpy(part, act + b * count + i, some * 4);
                store(part, activate(load(part), m.activation));
                for (Int n = 0; n < some; n++) up[n] = dense.gate.weight ? up[n] * part[n] : part[n];
                to.at(b * count + i).round(some);
            }
    }
    template <class Add> void feed_forward(const Layer& layer, const Values& from, const Add& add) {
        if (layer.expert) return mixture(layer, from, add);
        Int count = layer.dense.up.rows;
        share(count, team.chunk(count), [&](Int low, Int high) { within(layer.dense, low, high, from, step.sequences, 0); });
        product(layer.dense.down, inner, add);
    }
    template <class Add> void mixture(const Layer& layer, const Values& from, const Add& add) {
        product(layer.router, from, [&](Int b, Int row, float value) { liking[b * (m.experts + 1) + row] = value; });
        if (layer.shared_gate.weight)
            product(layer.shared_gate, from, [&](Int b, Int, float value) { liking[b * (m.experts + 1) + m.experts] = 1 / (1 + std::exp(-value)); });
        share(1, 1, [&](Int, Int) { route(layer.shared_gate.weight, from); });
        Int experts = *first;  // then the first pair of each, and the end
        auto each = [&](Int most, const auto& work) {
            Int chunk = team.chunk(most), pieces = (most + chunk - 1) / chunk;
            share(experts * pieces, 1, [&](Int item, Int) {
                Int n = item / pieces, low = item % pieces * chunk, at = first[1 + n];
                work(layer.expert[expert[n]], low, low + chunk, at, first[2 + n] - at);
            });
        };
        each(m.inner, [&](const Dense& dense, Int low, Int high, Int at, Int count) {
            if (low < dense.up.rows) within(dense, low, std::min(high, dense.up.rows), spread.at(at * m.width), count, at);
        });
        each(m.width, [&](const Dense& dense, Int low, Int high, Int at, Int count) {
            auto out = [&](Int b, Int row, float value) { spread.wide[(at + b) * m.width + row] = value; };
            rows(dense.down, low, std::min(high, m.width), inner.at(at * m.inner), count, out);
        });
        share(step.sequences, 1, [&](Int b, Int) {
            for (Int pair = 0; pair < first[1 + experts]; pair++)
                for (Int i = 0; goes[pair] == b && i < m.width; i++) add(b, i, share_of[pair] * spread.wide[pair * m.width + i]);
        });
    }
    void route(bool shared, const Values& from) {
        for (Int b = 0; b < step.sequences; b++) choose_experts(liking + b * (m.experts + 1), m.experts, m.chosen, m.normalized);
        Int pair = 0, experts = 0;
        for (Int e = 0; e < m.experts + shared; e++) {
            Int before = pair;
            for (Int b = 0; b < step.sequences; b++) {
                float one = liking[b * (m.experts + 1) + e];
                if (one < 0) continue;
                std::memcpy(spread.wide + pair * m.width, from.wide + b * m.width, m.width * 4);
                spread.at(pair * m.width).round(m.width);
                share_of[pair] = one, goes[pair++] = b;
            }
            if (pair > before) expert[experts] = e, first[1 + experts++] = before;
        }
        first[1 + experts] = pair, *first = experts;
    }
    template <class Part> void part(const Norm& norm, const Part& part) {
        if (m.pre) norms(norm, x, y);
        part(m.pre ? y : x, [&](Int b, Int row, float value) { x.wide[b * m.width + row] += value; });
        if (!m.pre) norms(norm, x, x);
    }
    void block(const Layer& layer, Int number) {
        part(layer.attention_norm, [&](const Values& from, const auto& add) {
            queries_keys_values(layer, from);
            if (cache.kind == FLOAT32) attend<float>(layer, number); else attend<bfloat>(layer, number);
            product(layer.output, mixed, add);
        });
        if (memory.keys)
            part(layer.memory_norm, [&](const Values& from, const auto& add) {
                product(layer.memory_query, from, [&](Int b, Int row, float value) { q[b * layer.memory_query.rows + row] = value; });
                if (memory.kind == FLOAT32) recall<float>(number); else recall<bfloat>(number);
                product(layer.memory_output, mixed, add);
            });
        part(layer.feed_forward_norm, [&](const Values& from, const auto& add) {
            feed_forward(layer, from, add);
        });
    }
    void run() {
        embed();
        for (Int n = 0; n < m.layers; n++) block(m.layer[n], n);
        share(step.sequences, 1, [&](Int b, Int) {
            float* own = x.wide + b * m.width;
            if (m.pre) normalize(m.rms, m.eps, m.final_norm, own, own, m.width);
            std::memcpy(step.hidden + b * m.width, own, m.width * 4);
            for (Int i = 0; i < m.width; i++) own[i] *= m.head_scale;
            x.at(b * m.width).round(m.width);
        });
        if (step.logits)
            product(m.head, x, [&](Int b, Int row, float value) { step.logits[b * m.head.rows + row] = value; });
    }
};

// Floats of work a step of so many sequences needs.
extern "C" Int graft_work(const Model* m, Int sequences, Int places, Int threads) {
    Int wide = m->heads * m->head_size, narrow = m->key_heads * m->head_size;
    Int experts = m->through * (3 * m->inner + 2 * m->width + 8) + m->experts + 8;
    return sequences * (3 * m->width + 3 * wide + 2 * narrow + experts + 8) + 32 * 16 + threads * ((places + 31) / 16 * 16);
}

static void help(Team* team, int thread) {
    for (uint64_t seen = 0;;) {
        for (int tries = 0; tries < 1024 && team->steps.load(std::memory_order_acquire) == seen; tries++) breathe();
        Step step;
        uint32_t first;
        {
            std::unique_lock<std::mutex> lock(team->telling);
            team->told.wait(lock, [&] { return team->closing || team->steps.load(std::memory_order_relaxed) != seen; });
            if (team->closing) return;
            seen = team->steps.load(std::memory_order_relaxed), step = team->step, first = team->first;
        }
        Run(*team, step, first, thread).run();
    }
}

// The memory's keys are absent where the model has none.
extern "C" Team* graft_open(const Model* m, const Cache* cache, const Cache* memory, int32_t threads) {
    Team* team = new Team(*m, *cache, *memory, threads);
    try {
        for (int thread = 1; thread < threads; thread++) team->others.emplace_back(help, team, thread);
    } catch (const std::system_error&) {  // fewer threads do as well
    }
    return team;
}

extern "C" void graft_close(Team* team) {
    if (getpid() != team->owner) return;  // its threads are another process's
    {
        std::lock_guard<std::mutex> lock(team->telling);
        team->closing = true;
    }
    team->told.notify_all();
    for (std::thread& other : team->others) other.join();
    delete team;
}

// Reads and writes all of it, or, where a token, place or slot is not there, nothing: then the number of that sequence
// from 1; otherwise 0.
extern "C" Int graft_step(Team* team, const Step* step) {
    const Model& m = team->m;
    const Cache &cache = team->cache, &memory = team->memory;
    auto within = [](Int x, Int end) { return x >= 0 && x < end; };
    for (Int b = 0; b < step->sequences; b++) {
        bool held = within(step->position[b], cache.places) && within(step->slot[b], cache.slots);
        bool known = !m.positions.weight || within(step->position[b] + m.position_offset, m.positions.rows);
        bool beside = !memory.keys || (within(step->source[b], memory.slots) && within(step->length[b] - 1, memory.places));
        if (!held || !known || !beside || !within(step->ids[b], m.tokens.rows)) return b + 1;
    }
    if (!step->sequences) return 0;
    std::lock_guard<std::mutex> alone(team->one_step);
    uint32_t first = uint32_t(team->state.load(std::memory_order_relaxed) >> 32);
    if (getpid() == team->owner && !team->others.empty()) {
        {
            std::lock_guard<std::mutex> lock(team->telling);
            team->step = *step, team->first = first;
            team->steps.fetch_add(1, std::memory_order_release);
        }
        team->told.notify_all();
    }
    Run(*team, *step, first, 0).run();
    return 0;
}

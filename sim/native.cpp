// The simulated device: a Verilated model behind a C interface that moves whole buffers.
//
// MODEL_HEADER names the model's header and LANES the bytes of a word; both come from the build.

#include <cstdint>
#include <cstring>
#include <memory>

#include MODEL_HEADER
#include "verilated.h"

namespace {

// Repeatable coin flips for stalls: xorshift64*.
struct Coin {
    uint64_t state;
    uint32_t threshold;  // of 2^32

    bool flip() {
        if (threshold == 0) return false;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1DULL) >> 32) < threshold;
    }
};

}  // namespace

extern "C" {

// A run of request bytes. `first` and `last` tell the cycles in which the device took the words
// that end in it; -1 before.
struct Segment {
    const uint8_t* data;
    int64_t size;
    int64_t done;
    int64_t first;
    int64_t last;
};

enum Status : int32_t { COMPLETE = 0, IDLE = 1 };

struct Device {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    int64_t cycles = 0;
    int64_t words_in = 0;
    int64_t words_out = 0;
    Coin input{1, 0};
    Coin output{1, 0};
    uint8_t word[LANES];
    Segment* offered = nullptr;  // where the word at the input comes from
    bool abandon = false;        // once the words at hand are taken

    Device() : top(new Vtop(&context)) {
        top->eval();
        reset();
        cycles = 0;
    }

    // The reset acts a cycle after its pin.
    void reset() {
        top->i___05Fvalid = 0;
        top->o___05Fready = 0;
        offered = nullptr;
        top->abandon = abandon = false;
        top->rst = 1;
        step();
        step();
        top->rst = 0;
        step();
    }

    // Every change of the clock is a rising edge (sim/build.py sees to that), and all outputs come
    // from registers: what they show after one edge is what counts at the next.
    void step() {
        top->clk ^= 1;
        top->eval();
        ++cycles;
    }
};

int32_t device_lanes() { return LANES; }
Device* device_new() { return new Device; }
void device_delete(Device* device) { delete device; }
int64_t device_cycles(const Device* device) { return device->cycles; }
int64_t device_words_in(const Device* device) { return device->words_in; }
int64_t device_words_out(const Device* device) { return device->words_out; }

void device_reset(Device* device) { device->reset(); }

// Of 2^32 cycles, how many the source and the sink let pass.
void device_stalls(Device* device, uint64_t seed, uint32_t input, uint32_t output) {
    device->input = {seed | 1, input};
    device->output = {(seed ^ 0x9E3779B97F4A7C15ULL) | 1, output};
}

// What has begun will not go on.
void device_abandon(Device* device) { device->abandon = true; }
int32_t device_abandons(const Device* device) { return device->abandon; }

// Whether bytes are left, in `segments[at]`.
static bool any_left(Segment** segments, int64_t count, int64_t& at) {
    while (at < count && segments[at]->done == segments[at]->size) ++at;
    return at < count;
}

// Fills `word` from the segments; returns the one it ends in, none where they hold less.
static Segment* next_word(Device* device, Segment** segments, int64_t count, int64_t& at) {
    for (int64_t have = 0;;) {
        if (!any_left(segments, count, at)) return nullptr;
        Segment* segment = segments[at];
        int64_t take = segment->size - segment->done;
        if (take > LANES - have) take = LANES - have;
        std::memcpy(device->word + have, segment->data + segment->done, take);
        segment->done += take;
        have += take;
        if (have == LANES) return segment;
    }
}

// Runs until `wanted` answer words are in `answer`, all requests are taken, and what was to be
// abandoned is; or there is `room` for no more, or for `idle` cycles nothing moved. `produced`
// tells how many there are. The segments together are whole words; they must live until the device
// has taken them.
int32_t device_run(Device* device, Segment** segments, int64_t count, uint8_t* answer,
                   int64_t wanted, int64_t room, int64_t* produced, int64_t idle) {
    Vtop* top = device->top.get();
    int64_t at = 0;
    int64_t quiet = 0;
    int64_t done = 0;
    while (done < room && quiet < idle) {
        bool more = device->offered || any_left(segments, count, at);
        if (done >= wanted && !more && !device->abandon) break;
        top->abandon = device->abandon && !more;
        bool abandoned = top->abandon && top->abandoned;
        bool stall = false;  // an offered word stays offered until it is taken
        if (!device->offered && any_left(segments, count, at) &&
            !(stall = device->input.flip())) {
            device->offered = next_word(device, segments, count, at);
            if (device->offered) std::memcpy(&top->i___05Fpayload, device->word, LANES);
        }
        top->i___05Fvalid = device->offered != nullptr;
        top->o___05Fready = !device->output.flip();
        bool taken = top->i___05Fvalid && top->i___05Fready;
        bool given = top->o___05Fready && top->o___05Fvalid;
        if (given) {
            std::memcpy(answer + done * LANES, &top->o___05Fpayload, LANES);
            ++done;
            ++device->words_out;
        }
        if (taken) {
            if (device->offered->first < 0) device->offered->first = device->cycles;
            device->offered->last = device->cycles;
            device->offered = nullptr;
            ++device->words_in;
        }
        device->step();
        if (abandoned) top->abandon = device->abandon = false;
        quiet = taken || given || stall ? 0 : quiet + 1;
    }
    *produced = done;
    return done >= wanted ? COMPLETE : IDLE;
}

}  // extern "C"

// The simulated memory-mapped core: a Verilated model with a memory behind each of its AXI4
// masters, and accesses to its registers, behind a C interface.
//
// MODEL_HEADER names the model's header, LANES the bytes of a beat. MASTERS applies X to the number
// of each master. All come from the build.

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include MODEL_HEADER
#include "axi_memory.h"

namespace {

// Cycles of an engine that take no word because it is not ready: while it loads, between two
// requests, and in a product.
enum Use { TAKEN, LOADING, BETWEEN, PRODUCT, USES };

// Values of `route` in hw/control/controller.py.
constexpr int LOADER = 1, GEMV = 2;

}  // namespace

extern "C" {

// Cycles of a channel between the first and the last word that its engine took, and that its memory
// sent. Where no word waits for the engine, the cause is what the memory does.
struct Counts {
    int64_t engine[USES];
    int64_t empty[CAUSES];
    int64_t memory[CAUSES];
};

struct Channel {
    Memory memory;
    Cause before = NO_ADDRESS;  // a word of the memory reaches the engine two cycles later
    bool began = false;
    Counts counts{}, until_last{};

    // `probe` are i.valid, i.ready and route of the engine.
    void count(int probe) {
        bool valid = probe & 1, ready = probe & 2;
        int route = probe >> 2;
        if (valid && ready && !began) counts = {};
        began |= valid && ready;
        if (valid)
            ++counts.engine[ready ? TAKEN : route == LOADER ? LOADING
                                        : route == GEMV     ? PRODUCT
                                                            : BETWEEN];
        else
            ++counts.empty[before];
        if (valid && ready) until_last = counts;
        before = memory.cause;
    }
};

struct Core {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::vector<Channel> channels;
    int64_t cycles = 0;
    Random random;
    int64_t skew = 0;   // most cycles between address and word of a register access

    Core() : top(new Vtop(&context)) {
#define P(number, name) top->m##number##_axi_##name
#define X(number)                                                                                 \
    channels.push_back({Memory(Pins{                                                              \
        P(number, arvalid), P(number, arready), P(number, arlen), P(number, araddr),              \
        P(number, rvalid), P(number, rready), P(number, rresp), P(number, rlast),                 \
        &P(number, rdata), P(number, awvalid), P(number, awready), P(number, awlen),              \
        P(number, awaddr), P(number, wvalid), P(number, wready), P(number, wlast),                \
        &P(number, wdata), P(number, bvalid), P(number, bready), P(number, bresp)})});
        MASTERS
#undef X
#undef P
        top->s_axi_wstrb = 0xF;
        top->eval();
        reset();
        cycles = 0;
    }

    void reset() {
        top->s_axi_awvalid = top->s_axi_wvalid = top->s_axi_arvalid = 0;
        top->s_axi_bready = top->s_axi_rready = 0;
        top->aresetn = 0;
        for (Channel& channel : channels) channel.memory.reset();
        for (int count = 0; count < 4; ++count) edge();
        for (Channel& channel : channels) channel.memory.check_quiet();
        top->aresetn = 1;
        top->eval();
        for (int count = 0; count < 8; ++count) step();
    }

    // Every change of the clock is a rising edge: sim/axi_build.py sees to that.
    void edge() {
        top->aclk ^= 1;
        top->eval();
        ++cycles;
    }

    void step() {
        for (size_t number = 0; number < channels.size(); ++number) {
            channels[number].count(top->probe[number]);
            channels[number].memory.cycle(cycles);
        }
        edge();
    }

    int64_t pause() { return skew ? random.below(skew + 1) : 0; }
};

int32_t axi_lanes() { return LANES; }
Core* axi_new() { return new Core; }
void axi_delete(Core* core) { delete core; }
int64_t axi_cycles(const Core* core) { return core->cycles; }
int32_t axi_irq(const Core* core) { return core->top->irq; }
void axi_reset(Core* core) { core->reset(); }

// The memory of a channel: `size` bytes at `data`, which must live as long as the core.
void axi_memory(Core* core, int32_t channel, uint8_t* data, uint64_t base, uint64_t size) {
    core->channels[channel].memory.place(data, base, size);
}

// How the memory of a channel behaves from now on.
void axi_timing(Core* core, int32_t channel, const Timing* timing, uint64_t seed) {
    core->channels[channel].memory.set(*timing, seed);
}

// Access registers with up to `skew` cycles between the parts of an access.
void axi_skew(Core* core, int64_t skew, uint64_t seed) {
    core->skew = skew;
    core->random.seed(seed);
}

// For so many cycles the memory of a channel moves nothing.
void axi_hold(Core* core, int32_t channel, int64_t cycles) {
    core->channels[channel].memory.hold = cycles;
}

// Error responses of the memory of a channel so far.
int64_t axi_errors(const Core* core, int32_t channel) {
    return core->channels[channel].memory.errors;
}

// Breaches of the rules of a master so far, and the first of them.
int64_t axi_breaches(const Core* core, int32_t channel, char* first, int64_t room) {
    const Rules& rules = core->channels[channel].memory.rules;
    std::strncpy(first, rules.first.c_str(), room - 1);
    return rules.breaches;
}

// Counts of a channel since the last call.
void axi_counts(Core* core, int32_t number, Counts* counts) {
    Channel& channel = core->channels[number];
    *counts = channel.until_last;
    channel.memory.take_counts(counts->memory);
    channel.began = false;
    channel.counts = channel.until_last = {};
}

// Writes a register. Returns the response, or -1 if none comes within `most` cycles.
int32_t axi_write(Core* core, uint32_t address, uint32_t value, int64_t most) {
    Vtop* top = core->top.get();
    int64_t address_in = core->pause(), value_in = core->pause(), ready_in = core->pause();
    top->s_axi_awaddr = address;
    top->s_axi_wdata = value;
    int32_t response = -1;
    while (response < 0 && most-- > 0) {
        if (address_in-- == 0) top->s_axi_awvalid = 1;
        if (value_in-- == 0) top->s_axi_wvalid = 1;
        if (ready_in-- == 0) top->s_axi_bready = 1;
        bool aw = top->s_axi_awvalid && top->s_axi_awready;
        bool w = top->s_axi_wvalid && top->s_axi_wready;
        if (top->s_axi_bvalid && top->s_axi_bready) response = top->s_axi_bresp;
        core->step();
        if (aw) top->s_axi_awvalid = 0;
        if (w) top->s_axi_wvalid = 0;
    }
    top->s_axi_awvalid = top->s_axi_wvalid = top->s_axi_bready = 0;
    return response;
}

// Reads a register: like axi_write.
int32_t axi_read(Core* core, uint32_t address, uint32_t* value, int64_t most) {
    Vtop* top = core->top.get();
    int64_t ready_in = core->pause();
    top->s_axi_araddr = address;
    top->s_axi_arvalid = 1;
    int32_t response = -1;
    while (response < 0 && most-- > 0) {
        if (ready_in-- == 0) top->s_axi_rready = 1;
        bool ar = top->s_axi_arvalid && top->s_axi_arready;
        if (top->s_axi_rvalid && top->s_axi_rready) {
            response = top->s_axi_rresp;
            *value = top->s_axi_rdata;
        }
        core->step();
        if (ar) top->s_axi_arvalid = 0;
    }
    top->s_axi_arvalid = top->s_axi_rready = 0;
    return response;
}

// Runs for at most `cycles`, until the interrupt is requested; returns whether it is.
int32_t axi_wait(Core* core, int64_t cycles) {
    while (!core->top->irq && cycles-- > 0) core->step();
    return core->top->irq;
}

// Runs for `cycles`.
void axi_run(Core* core, int64_t cycles) {
    while (cycles-- > 0) core->step();
}

}  // extern "C"

// The simulated memory-mapped core: a Verilated model with a memory behind each of its AXI4
// masters, and accesses to its registers, behind a C interface.
//
// MODEL_HEADER names the model's header, LANES the bytes of a beat. MASTERS applies X to the number
// of each master. All come from the build.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include MODEL_HEADER
#include "verilated.h"

namespace {

constexpr uint64_t PAGE = 4096;
// Bursts that a memory holds.
constexpr size_t MOST_BURSTS = 64;
constexpr int OKAY = 0, DECERR = 3;

// Repeatable coin flips for stalls: xorshift64*.
struct Coin {
    uint64_t state = 1;
    uint32_t threshold = 0;  // of 2^32

    bool flip() {
        if (threshold == 0) return false;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1DULL) >> 32) < threshold;
    }
};

// Pins of an AXI4 master. Data are bytes, because their type depends on the width.
struct Pins {
    CData &arvalid, &arready, &arlen;
    QData& araddr;
    CData &rvalid, &rready, &rresp, &rlast;
    void* rdata;
    CData &awvalid, &awready, &awlen;
    QData& awaddr;
    CData &wvalid, &wready, &wlast;
    const void* wdata;
    CData &bvalid, &bready, &bresp;
};

struct Burst {
    uint64_t address;
    int beats;
    int64_t due;   // cycle of the first beat
    int response;  // worst of a beat so far
};

// Memory that moves one beat per cycle, read or written, except in stalls. A burst is answered after
// a fixed latency, with DECERR if it leaves the memory.
struct Memory {
    Pins pins;
    uint8_t* data = nullptr;
    uint64_t base = 0, size = 0;
    int64_t latency = 1;
    int64_t violations = 0;  // of the rules of AXI, by the master
    Coin coin{};
    std::deque<Burst> reads{}, writes{}, answers{};
    bool held = false;  // the beat that is offered was not taken
    bool wrote = false;  // when both kinds could move last, a beat was written

    void clear() {
        reads.clear();
        writes.clear();
        answers.clear();
        pins.arready = pins.awready = pins.wready = pins.rvalid = pins.bvalid = held = 0;
    }

    uint8_t* place(uint64_t address) const {
        bool inside = address >= base && address - base < size && size - (address - base) >= LANES;
        return inside ? data + (address - base) : nullptr;
    }

    Burst burst(uint64_t address, int beats, int64_t due) {
        bool crosses = address / PAGE != (address + uint64_t(beats) * LANES - 1) / PAGE;
        violations += crosses || address % LANES;
        return {address, beats, due, OKAY};
    }

    // Sets the inputs of the master for the next edge, and does what happens at it. The outputs of
    // the master come from registers, so they are known before.
    void cycle(int64_t now) {
        bool stall = coin.flip();
        bool read = held || (!stall && !reads.empty() && reads.front().due <= now);
        bool write = !stall && !held && !writes.empty() && pins.wvalid;
        if (read && write) {
            wrote = !wrote;
            (wrote ? read : write) = false;
        }
        pins.rvalid = read;
        if (read) read_beat();
        pins.wready = write;
        if (write) write_beat(now);
        pins.bvalid = !answers.empty() && answers.front().due <= now;
        if (pins.bvalid) {
            pins.bresp = answers.front().response;
            if (pins.bready) answers.pop_front();
        }
        pins.arready = reads.size() < MOST_BURSTS;
        if (pins.arvalid && pins.arready)
            reads.push_back(burst(pins.araddr, pins.arlen + 1, now + latency));
        pins.awready = writes.size() < MOST_BURSTS;
        if (pins.awvalid && pins.awready)
            writes.push_back(burst(pins.awaddr, pins.awlen + 1, 0));
    }

    void read_beat() {
        Burst& burst = reads.front();
        const uint8_t* from = place(burst.address);
        if (from) std::memcpy(pins.rdata, from, LANES);
        pins.rresp = from ? OKAY : DECERR;
        pins.rlast = burst.beats == 1;
        held = !pins.rready;
        if (held) return;
        burst.address += LANES;
        if (--burst.beats == 0) reads.pop_front();
    }

    void write_beat(int64_t now) {
        Burst& burst = writes.front();
        uint8_t* to = place(burst.address);
        if (to) std::memcpy(to, pins.wdata, LANES);
        else burst.response = DECERR;
        burst.address += LANES;
        violations += bool(pins.wlast) != (--burst.beats == 0);
        if (burst.beats) return;
        answers.push_back({0, 0, now + latency, burst.response});
        writes.pop_front();
    }
};

}  // namespace

extern "C" {

struct Core {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::vector<Memory> memories;
    int64_t cycles = 0;

    Core() : top(new Vtop(&context)) {
#define P(number, name) top->m##number##_axi_##name
#define X(number)                                                                                 \
    memories.push_back({Pins{                                                                     \
        P(number, arvalid), P(number, arready), P(number, arlen), P(number, araddr),              \
        P(number, rvalid), P(number, rready), P(number, rresp), P(number, rlast),                 \
        &P(number, rdata), P(number, awvalid), P(number, awready), P(number, awlen),              \
        P(number, awaddr), P(number, wvalid), P(number, wready), P(number, wlast),                \
        &P(number, wdata), P(number, bvalid), P(number, bready), P(number, bresp)}});
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
        for (int count = 0; count < 4; ++count) edge();
        for (Memory& memory : memories) memory.clear();
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
        for (Memory& memory : memories) memory.cycle(cycles);
        edge();
    }
};

Core* axi_new() { return new Core; }
void axi_delete(Core* core) { delete core; }
int64_t axi_cycles(const Core* core) { return core->cycles; }
int32_t axi_irq(const Core* core) { return core->top->irq; }
void axi_reset(Core* core) { core->reset(); }

// The memory of a channel: `size` bytes at `data`, which must live as long as the core.
void axi_memory(Core* core, int32_t channel, uint8_t* data, uint64_t base, uint64_t size) {
    Memory& memory = core->memories[channel];
    memory.data = data;
    memory.base = base;
    memory.size = size;
}

// Cycles from an address to its first beat, or from the last written beat to its acknowledgement,
// and how many of 2^32 cycles move no beat.
void axi_timing(Core* core, int64_t latency, uint64_t seed, uint32_t stalls) {
    for (Memory& memory : core->memories) {
        memory.latency = latency;
        memory.coin = {(seed++ * 0x9E3779B97F4A7C15ULL) | 1, stalls};
    }
}

int64_t axi_violations(const Core* core) {
    int64_t count = 0;
    for (const Memory& memory : core->memories) count += memory.violations;
    return count;
}

// Writes a register. Returns the response, or -1 if none comes within `most` cycles.
int32_t axi_write(Core* core, uint32_t address, uint32_t value, int64_t most) {
    Vtop* top = core->top.get();
    top->s_axi_awaddr = address;
    top->s_axi_wdata = value;
    top->s_axi_awvalid = top->s_axi_wvalid = top->s_axi_bready = 1;
    int32_t response = -1;
    while (response < 0 && most-- > 0) {
        bool aw = top->s_axi_awvalid && top->s_axi_awready;
        bool w = top->s_axi_wvalid && top->s_axi_wready;
        if (top->s_axi_bvalid) response = top->s_axi_bresp;
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
    top->s_axi_araddr = address;
    top->s_axi_arvalid = top->s_axi_rready = 1;
    int32_t response = -1;
    while (response < 0 && most-- > 0) {
        bool ar = top->s_axi_arvalid && top->s_axi_arready;
        if (top->s_axi_rvalid) {
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

}  // extern "C"

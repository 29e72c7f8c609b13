// The simulated board: a Verilated system with bus, loader and Ethernet pins, behind a C interface.
//
// MODEL_HEADER names the model's header, WIDE is the bytes of a memory word; LINK stands where the
// system has Ethernet. All come from the build.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include MODEL_HEADER
#include "verilated.h"

namespace {

// Bytes between two frames on a cable.
constexpr int GAP = 12;
constexpr int CAUSES = 8;

}  // namespace

extern "C" {

// Since they were last cleared: words the core took and gave, the cycles of the first and the last
// that it took, and what the memory did in the cycles between them.
struct Counts {
    int64_t taken;
    int64_t given;
    int64_t first;
    int64_t last;
    int64_t refreshes;
    int64_t causes[CAUSES];
};

struct Soc {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    int64_t cycles = 0;
    std::string told;  // the first violation
    int64_t violations = 0;
    Counts counts{};
    int64_t causes[CAUSES] = {};
    std::deque<std::vector<uint8_t>> in;
    std::deque<std::vector<uint8_t>> out;
    std::vector<uint8_t> coming;
    size_t place = 0;
    int gap = 0;

    Soc() : top(new Vtop(&context)) {
        top->rst = 1;
        for (int cycle = 0; cycle < 4; ++cycle) step();
        top->rst = 0;
    }

    void settle() {
        top->clk = 0;
        top->eval();
    }

    // A cycle, from inputs that have settled.
    void edge() {
        ++causes[top->cause];
        if (top->core_taken) count_word();
        counts.given += top->core_given;
        counts.refreshes += top->refreshed;
        top->clk = 1;
        top->eval();
        ++cycles;
    }

    void count_word() {
        if (counts.taken++ == 0) {
            counts.first = cycles;
            std::memset(causes, 0, sizeof causes);
        }
        counts.last = cycles;
        std::memcpy(counts.causes, causes, sizeof causes);
    }

    void step() {
        ethernet();
        settle();
        edge();
    }

#ifdef LINK
    void ethernet() {
        top->eth_sink_valid = 0;
        if (gap) {
            --gap;
        } else if (!in.empty()) {
            top->eth_sink_valid = 1;
            top->eth_sink_data = in.front()[place++];
            if (place == in.front().size()) {
                in.pop_front();
                place = 0;
                gap = GAP;
            }
        }
        if (top->eth_source_valid) {
            coming.push_back(top->eth_source_data);
        } else if (!coming.empty()) {
            out.push_back(std::move(coming));
            coming.clear();
        }
    }
#else
    void ethernet() {}
#endif
};

// The board that runs, for the calls of its model.
static Soc* running = nullptr;

// A command that came too early or too late for the memory.
void violation(const char* what) {
    if (running && running->violations++ == 0) running->told = what;
}

Soc* soc_new() { return new Soc; }
void soc_delete(Soc* soc) { delete soc; }
int64_t soc_cycles(const Soc* soc) { return soc->cycles; }

void soc_run(Soc* soc, int64_t cycles) {
    running = soc;
    while (cycles-- > 0) soc->step();
}

// Words over the bus, one access each; returns how many were answered within `most` cycles each.
int64_t soc_bus(Soc* soc, int32_t write, uint32_t address, uint32_t* data, int64_t count,
                int64_t most) {
    Vtop* top = soc->top.get();
    running = soc;
    for (int64_t word = 0; word < count; ++word) {
        top->bus_adr = address / 4 + word;
        top->bus_dat_w = data[word];
        top->bus_we = write;
        top->bus_stb = 1;
        bool answered = false;
        for (int64_t cycle = 0; cycle < most && !answered; ++cycle) {
            soc->ethernet();
            soc->settle();
            answered = top->bus_ack;
            if (answered && !write) data[word] = top->bus_dat_r;
            soc->edge();
        }
        top->bus_stb = 0;
        soc->step();
        if (!answered) return word;
    }
    return count;
}

// Words straight into memory; returns how many it took within `most` cycles.
int64_t soc_load(Soc* soc, int64_t first, const uint8_t* data, int64_t count, int64_t most) {
    Vtop* top = soc->top.get();
    running = soc;
    int64_t word = 0;
    while (word < count && most-- > 0) {
        top->load_address = first + word;
        std::memcpy(&top->load_data, data + word * WIDE, WIDE);
        top->load_valid = 1;
        soc->ethernet();
        soc->settle();
        bool taken = top->load_ready;
        soc->edge();
        word += taken;
    }
    top->load_valid = 0;
    return word;
}

void soc_count(Soc* soc, Counts* counts) {
    *counts = soc->counts;
    soc->counts = {};
}

int64_t soc_violations(Soc* soc, char* what, int64_t room) {
    std::strncpy(what, soc->told.c_str(), room - 1);
    return soc->violations;
}

// A frame for the board, from preamble to checksum.
void soc_frame_in(Soc* soc, const uint8_t* data, int64_t size) {
    soc->in.emplace_back(data, data + size);
}

// Frames that wait to reach the board.
int64_t soc_waiting(const Soc* soc) { return soc->in.size(); }

// The next frame from the board; its size, 0 if there is none.
int64_t soc_frame_out(Soc* soc, uint8_t* data, int64_t room) {
    if (soc->out.empty()) return 0;
    int64_t size = soc->out.front().size();
    if (size <= room) std::memcpy(data, soc->out.front().data(), size);
    soc->out.pop_front();
    return size;
}

}  // extern "C"

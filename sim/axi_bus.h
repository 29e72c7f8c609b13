// AXI4 as a memory sees it: the pins of a master, and the rules that a master must keep.

#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "verilated.h"

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

enum Response { OKAY = 0, SLVERR = 2, DECERR = 3 };

// Repeatable random numbers: xorshift64*. Shares are of 2^32.
struct Random {
    uint64_t state = 1;

    void seed(uint64_t value) { state = (value * 0x9E3779B97F4A7C15ULL) | 1; }
    uint32_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1DULL) >> 32);
    }
    bool flip(int64_t share) { return share && next() < share; }
    int64_t below(int64_t limit) { return int64_t(uint64_t(next()) * uint64_t(limit) >> 32); }
};

// Rules for a master: AXI4, and what docs/axi.md says of bursts and of the core's readiness.
class Rules {
  public:
    std::string first;  // breach
    int64_t breaches = 0;

    // Looks at a cycle in which all pins are set.
    void look(const Pins& pins) {
        check(!ar_ || (pins.arvalid && pins.araddr == araddr_ && pins.arlen == arlen_),
              "withdrew a read address");
        check(!aw_ || (pins.awvalid && pins.awaddr == awaddr_ && pins.awlen == awlen_),
              "withdrew a write address");
        check(!w_ || (pins.wvalid && pins.wlast == wlast_ &&
                      !std::memcmp(pins.wdata, wdata_, LANES)), "withdrew a word");
        check(!pins.rvalid || pins.rready, "was not ready for a word");
        check(!pins.bvalid || pins.bready, "was not ready for a response");
        if (pins.arvalid) check_burst(pins.araddr, pins.arlen + 1);
        if (pins.awvalid) check_burst(pins.awaddr, pins.awlen + 1);
        keep(pins);
    }

    void check(bool kept, const char* what) {
        if (!kept && breaches++ == 0) first = what;
    }

    void forget() { ar_ = aw_ = w_ = false; }

  private:
    void check_burst(uint64_t address, int beats) {
        check(address % LANES == 0, "began a burst within a word");
        check(address >> 12 == (address + uint64_t(beats) * LANES - 1) >> 12,
              "crossed a page with a burst");
    }

    // What is offered and not taken.
    void keep(const Pins& pins) {
        ar_ = pins.arvalid && !pins.arready;
        aw_ = pins.awvalid && !pins.awready;
        w_ = pins.wvalid && !pins.wready;
        araddr_ = pins.araddr;
        awaddr_ = pins.awaddr;
        arlen_ = pins.arlen;
        awlen_ = pins.awlen;
        wlast_ = pins.wlast;
        if (w_) std::memcpy(wdata_, pins.wdata, LANES);
    }

    bool ar_ = false, aw_ = false, w_ = false, wlast_ = false;
    uint64_t araddr_ = 0, awaddr_ = 0;
    int arlen_ = 0, awlen_ = 0;
    uint8_t wdata_[LANES];
};

// Memory behind an AXI4 master of the simulated core: contents, time and errors.
//
// It is a channel of its own, such as a pseudo channel of HBM or a DDR controller. Another class can
// stand in its place: sim/axi.cpp uses its public members only.

#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "axi_bus.h"

// Use of a cycle. If several apply, the first is reported.
enum Cause { WORD, REFRESH, GAP, RATE, STALL, WRITE, TURN, ROW, LATENCY, NO_ADDRESS, CAUSES };

// Times in cycles, shares of 2^32. sim/axi.py has the same fields, with their meaning.
struct Timing {
    int64_t latency, rate;
    int64_t refresh_every, refresh;
    int64_t gaps, longest_gap;
    int64_t banks, row, miss, turn;
    int64_t outstanding;
    int64_t stall_ar, stall_r, stall_aw, stall_w, stall_b;
    int64_t late, latest;
    int64_t slverr, decerr;
};

struct Burst {
    uint64_t address;
    int beats, done;
    int64_t due;        // first cycle of its words
    bool inside;        // the memory
    int response, bad;  // response, and the word that it answers
};

struct Bank {
    int64_t row = -1, ready = 0;
};

class Memory {
  public:
    explicit Memory(Pins pins) : pins_(pins) {}

    Rules rules;
    Cause cause = NO_ADDRESS;
    int64_t errors = 0;     // responses other than OKAY
    int64_t hold = 0;       // cycles in which nothing moves

    void place(uint8_t* data, uint64_t base, uint64_t size) {
        data_ = data;
        base_ = base;
        size_ = size;
    }

    void set(const Timing& timing, uint64_t seed) {
        timing_ = timing;
        random_.seed(seed);
        banks_.assign(timing.banks, Bank());
    }

    // Forgets all bursts, as in a reset of the interconnect.
    void reset() {
        reads_.clear();
        writes_.clear();
        words_.clear();
        lengths_.clear();
        ends_.clear();
        responses_.clear();
        arrived_ = 0;
        offers_r_ = offers_b_ = within_ = false;
        pins_.arready = pins_.awready = pins_.wready = pins_.rvalid = pins_.bvalid = 0;
        rules.forget();
    }

    void check_quiet() {
        rules.check(!pins_.arvalid && !pins_.awvalid && !pins_.wvalid && !pins_.rready &&
                    !pins_.bready, "set a handshake signal in reset");
    }

    // Cycles by cause between the first and the last word that was read since the last call.
    void take_counts(int64_t* counts) {
        std::memcpy(counts, until_last_, sizeof until_last_);
        std::memset(until_last_, 0, sizeof until_last_);
        began_ = false;
    }

    // Sets the inputs of the master for the next edge, and does what happens at it. The outputs of
    // the master come from registers, so they are known before.
    void cycle(int64_t now) {
        now_ = now;
        accept();
        if (hold) --hold;
        else move();
        pins_.rvalid = offers_r_;
        pins_.bvalid = offers_b_;
        rules.look(pins_);
        if (pins_.rready) offers_r_ = false;
        if (pins_.bready) offers_b_ = false;
    }

  private:
    void accept() {
        pins_.arready = int64_t(reads_.size()) < timing_.outstanding &&
                        !random_.flip(timing_.stall_ar);
        pins_.awready = writes_.size() < 8 && !random_.flip(timing_.stall_aw);
        pins_.wready = words_.size() < size_t(512 * LANES) && !random_.flip(timing_.stall_w);
        if (pins_.arvalid && pins_.arready)
            reads_.push_back(burst(pins_.araddr, pins_.arlen + 1, timing_.latency));
        if (pins_.awvalid && pins_.awready) {
            writes_.push_back(burst(pins_.awaddr, pins_.awlen + 1, 0));
            lengths_.push_back(pins_.awlen + 1);
        }
        if (pins_.wvalid && pins_.wready) accept_word();
        check_lengths();
    }

    Burst burst(uint64_t address, int beats, int64_t latency) {
        uint64_t place = address - base_, bytes = uint64_t(beats) * LANES;
        Burst made{address, beats, 0, now_ + latency, place < size_ && bytes <= size_ - place};
        if (random_.flip(timing_.late)) made.due += random_.below(timing_.latest) + 1;
        if (random_.flip(timing_.slverr)) made.response = SLVERR;
        if (random_.flip(timing_.decerr) || !made.inside) made.response = DECERR;
        if (made.response) made.bad = int(random_.below(beats));
        errors += made.response != OKAY;
        return made;
    }

    // Words may come before their address.
    void accept_word() {
        const uint8_t* data = static_cast<const uint8_t*>(pins_.wdata);
        words_.insert(words_.end(), data, data + LANES);
        ++arrived_;
        if (pins_.wlast) {
            ends_.push_back(arrived_);
            arrived_ = 0;
        }
    }

    void check_lengths() {
        while (!lengths_.empty() && !ends_.empty()) {
            rules.check(lengths_.front() == ends_.front(), "set WLAST at a wrong word");
            lengths_.pop_front();
            ends_.pop_front();
        }
    }

    void move() {
        credit_ += timing_.rate;
        cause = closed();
        open_rows();
        if (cause == WORD) cause = credit_ < 256 * LANES ? RATE : transfer();
        // A word that was not transferred cannot be made up for.
        credit_ %= 256 * LANES;
        outside();
        respond();
        if (cause == WORD && !began_) std::memset(counts_, 0, sizeof counts_);
        began_ |= cause == WORD;
        ++counts_[cause];
        if (cause == WORD) std::memcpy(until_last_, counts_, sizeof counts_);
    }

    // What closes the memory for all bursts, or WORD.
    Cause closed() {
        if (timing_.refresh_every && now_ % timing_.refresh_every < timing_.refresh) {
            banks_.assign(timing_.banks, Bank());
            return REFRESH;
        }
        if (gap_) --gap_;
        else if (random_.flip(timing_.gaps)) gap_ = random_.below(timing_.longest_gap) + 1;
        return gap_ ? GAP : now_ < turned_ ? TURN : WORD;
    }

    Bank& bank_of(const Burst& burst, int64_t& row) {
        row = int64_t((burst.address - base_) / timing_.row);
        return banks_[row % banks_.size()];
    }

    // Whether a written word is next, if both kinds wait: a burst is completed once it has begun,
    // otherwise they take turns.
    bool next_writes() const { return within_ ? writing_ : !writing_; }

    // Opens the rows of the first two bursts of each kind ahead of time, unless a burst before them
    // needs another row of the bank.
    void open_rows() {
        if (!timing_.miss || cause == REFRESH) return;
        uint64_t needed = 0;
        for (bool writes : {next_writes(), !next_writes()}) {
            const std::deque<Burst>& bursts = writes ? writes_ : reads_;
            for (size_t place = 0; place < std::min<size_t>(bursts.size(), 2); ++place) {
                const Burst& burst = bursts[place];
                if (!burst.inside || now_ + timing_.miss < burst.due) break;
                if (writes && !complete()) break;
                int64_t row;
                Bank& bank = bank_of(burst, row);
                uint64_t bit = 1ULL << (&bank - banks_.data());
                if (!(needed & bit) && bank.row != row) bank = {row, now_ + timing_.miss};
                needed |= bit;
            }
        }
    }

    // A word read or written, or why there is none.
    Cause transfer() {
        bool first = next_writes();
        Cause found = transfer_word(first);
        if (found == WORD || found == WRITE || found == TURN || within_) return found;
        return std::min(found, transfer_word(!first));
    }

    Cause transfer_word(bool writes) {
        std::deque<Burst>& bursts = writes ? writes_ : reads_;
        if (bursts.empty() || !bursts.front().inside) return NO_ADDRESS;
        Burst& burst = bursts.front();
        if (now_ < burst.due || (writes && !complete())) return LATENCY;
        int64_t row;
        if (timing_.miss) {
            const Bank& bank = bank_of(burst, row);
            if (bank.row != row || bank.ready > now_) return ROW;
        }
        if (!writes && (offers_r_ || random_.flip(timing_.stall_r))) return STALL;
        if (writes != writing_ && timing_.turn) {
            within_ = true;
            writing_ = writes;
            turned_ = now_ + timing_.turn;
            return TURN;
        }
        writing_ = writes;
        within_ = burst.done + 1 < burst.beats;
        writes ? store() : send();
        return writes ? WRITE : WORD;
    }

    // Whether all words of the first written burst are here.
    bool complete() const { return lengths_.size() < writes_.size(); }

    void send() {
        Burst& burst = reads_.front();
        uint8_t* word = static_cast<uint8_t*>(pins_.rdata);
        // All words from outside are errors, otherwise one word of a burst.
        bool bad = burst.response && (!burst.inside || burst.done == burst.bad);
        if (bad) std::generate(word, word + LANES, [this] { return uint8_t(random_.next()); });
        else std::memcpy(word, data_ + (burst.address - base_) + burst.done * LANES, LANES);
        pins_.rresp = bad ? burst.response : OKAY;
        pins_.rlast = ++burst.done == burst.beats;
        offers_r_ = true;
        if (pins_.rlast) reads_.pop_front();
    }

    void store() {
        Burst& burst = writes_.front();
        auto end = words_.begin() + LANES;
        if (!burst.response)
            std::copy(words_.begin(), end, data_ + (burst.address - base_) + burst.done * LANES);
        words_.erase(words_.begin(), end);
        if (++burst.done < burst.beats) return;
        responses_.emplace_back(now_ + timing_.latency, burst.response);
        writes_.pop_front();
    }

    // Bursts outside the memory take no time of it.
    void outside() {
        if (!reads_.empty() && !reads_.front().inside && !offers_r_ && now_ >= reads_.front().due)
            send();
        if (!writes_.empty() && !writes_.front().inside && complete()) store();
    }

    void respond() {
        if (responses_.empty() || offers_b_ || responses_.front().first > now_ ||
            random_.flip(timing_.stall_b))
            return;
        pins_.bresp = responses_.front().second;
        responses_.pop_front();
        offers_b_ = true;
    }

    Pins pins_;
    Timing timing_{};
    Random random_;
    uint8_t* data_ = nullptr;
    uint64_t base_ = 0, size_ = 0;
    int64_t now_ = 0;
    std::deque<Burst> reads_, writes_;
    std::deque<uint8_t> words_;         // to write
    std::deque<int> lengths_, ends_;    // words of bursts by AWLEN and by WLAST, not yet compared
    int arrived_ = 0;                   // words since WLAST
    std::deque<std::pair<int64_t, int>> responses_;     // to writes: cycle and value
    bool offers_r_ = false, offers_b_ = false;          // and not yet taken
    std::vector<Bank> banks_;
    int64_t credit_ = 0;                // in 1/256 bytes
    int64_t gap_ = 0, turned_ = 0;
    bool writing_ = false, within_ = false;     // kind of the last burst; it is not complete
    bool began_ = false;
    int64_t counts_[CAUSES] = {}, until_last_[CAUSES] = {};
};

// Testbench of the IP core for any Verilog-2005 simulator.
//
// Replays the request words of requests.hex and compares the responses with answers.hex word by
// word. Pauses at random on both sides, and ends with a line PASS or FAIL. Both files and a matching
// core are written by `tritstream hw testbench`. Every input is X in cycles in which the core must
// ignore it: TDATA and TLAST while TVALID is low, TREADY while the core offers no word.
//
//   $ iverilog -g2005 -o tb tritstream.v tb_tritstream.v && vvp tb
// or:
//   $ verilator --binary --timing --top tb_tritstream tritstream.v tb_tritstream.v
//   $ obj_dir/Vtb_tritstream
//
// A word of answers.hex has two digits before its bytes. The first is 1 if the bytes are compared,
// which excludes cycle counters and their checksum. The second is TLAST.

module tb_tritstream;
  parameter LANES = 8;          // must match the core
  parameter PAUSES = 4;         // average cycles per pause on each side; 0 for no pauses
  localparam BITS = 8 * LANES;
  localparam QUIET = 5000;      // cycles without a transfer after which a core is stuck

  reg             aclk = 0;
  reg             aresetn = 0;
  reg  [BITS-1:0] s_axis_tdata = {BITS{1'bx}};
  reg             s_axis_tvalid = 0;
  reg             s_axis_tlast = 1'bx;
  wire            s_axis_tready;
  wire [BITS-1:0] m_axis_tdata;
  wire            m_axis_tvalid;
  reg             ready = 0;
  wire            m_axis_tready = m_axis_tvalid ? ready : 1'bx;
  wire            m_axis_tlast;

  tritstream u_tritstream (
    .aclk          (aclk),
    .aresetn       (aresetn),
    .s_axis_tdata  (s_axis_tdata),
    .s_axis_tvalid (s_axis_tvalid),
    .s_axis_tready (s_axis_tready),
    .s_axis_tlast  (s_axis_tlast),
    .m_axis_tdata  (m_axis_tdata),
    .m_axis_tvalid (m_axis_tvalid),
    .m_axis_tready (m_axis_tready),
    .m_axis_tlast  (m_axis_tlast)
  );

  integer requests, answers, seed;
  integer cycles = 0, quiet = 0, sent = 0, words = 0, frames = 0, faults = 0;
  reg [BITS-1:0] word;
  reg [BITS+7:0] due;           // expected response word, valid if `more`
  reg            more;
  reg            waiting = 0;   // a response word was offered and not taken
  reg [BITS:0]   offered;

  function paused(input integer unused);        // true at random
    paused = PAUSES != 0 && $random(seed) % PAUSES == 0;
  endfunction

  task next_answer;
    more = $fscanf(answers, "%h\n", due) == 1;
  endtask

  task fault(input [BITS-1:0] wanted);
    begin
      faults = faults + 1;
      if (faults <= 10)
        $display("cycle %0d, answer word %0d: %h last %b, not %h last %b",
                 cycles, words, m_axis_tdata, m_axis_tlast, wanted, due[BITS]);
    end
  endtask

  task finish;
    begin
      if (more || sent == 0) $display("FAIL: silent after %0d answer words", words);
      else if (faults != 0)  $display("FAIL: %0d faults in %0d answer words", faults, words);
      else $display("PASS: %0d request words, %0d answer words in %0d frames, %0d cycles",
                    sent, words, frames, cycles);
      $finish;
    end
  endtask

  initial begin
    seed     = 1;
    requests = $fopen("requests.hex", "r");
    answers  = $fopen("answers.hex", "r");
    if (requests == 0 || answers == 0) begin
      $display("FAIL: requests.hex or answers.hex is missing");
      $finish;
    end
    next_answer;
    #100 aresetn = 1;
  end

  always #5 aclk = !aclk;

  // Source: each word is held until it is taken.
  always @(posedge aclk)
    if (aresetn && (!s_axis_tvalid || s_axis_tready)) begin
      s_axis_tvalid <= 0;
      s_axis_tdata  <= {BITS{1'bx}};
      s_axis_tlast  <= 1'bx;
      if (!paused(0))           // no `&&`: some simulators would read a word anyway
        if ($fscanf(requests, "%h\n", word) == 1) begin
          s_axis_tdata  <= word;
          s_axis_tvalid <= 1;
          s_axis_tlast  <= paused(0);           // ignored
          sent = sent + 1;
        end
    end

  // Sink: compares each response word.
  always @(posedge aclk) begin
    ready   <= !paused(0);
    waiting <= m_axis_tvalid && !m_axis_tready;
    offered <= {m_axis_tlast, m_axis_tdata};
    if ((s_axis_tready ^ m_axis_tvalid) === 1'bx) begin
      $display("cycle %0d: TREADY %b, TVALID %b", cycles, s_axis_tready, m_axis_tvalid);
      faults = faults + 1;
    end
    if (waiting && (!m_axis_tvalid || offered !== {m_axis_tlast, m_axis_tdata})) begin
      $display("cycle %0d: an answer word changed before it was taken", cycles);
      faults = faults + 1;
    end
    if (m_axis_tvalid && m_axis_tready) begin
      if (!more) fault(0);
      else if (m_axis_tlast !== due[BITS] || (due[BITS+4] && m_axis_tdata !== due[BITS-1:0]))
        fault(due[BITS-1:0]);
      words = words + 1;
      if (m_axis_tlast) frames = frames + 1;
      next_answer;
    end
  end

  // The core may be silent while it computes, but not longer than QUIET cycles.
  always @(posedge aclk) begin
    cycles = cycles + 1;
    quiet  = (s_axis_tvalid && s_axis_tready) || (m_axis_tvalid && m_axis_tready) ? 0 : quiet + 1;
    if (quiet == QUIET) finish;
  end
endmodule

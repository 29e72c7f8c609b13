// What the 7-series and UltraScale+ cells that we instantiate do in the modes we use, for proofs
// only; written from AMD's UG473, UG573 and UG579. Yosys itself has models of LUT4, CARRY4, CARRY8
// and DSP48E1, but only the ports of these cells.

// Port A reads through its output register, port B writes. A memory of this model has 64 rows,
// whatever its width; in 36 bits, the low half is at the pins of port A. A row of 36 bits can be read
// as two rows of 18 bits.
module ramb18_model #(parameter READ = 0, WRITE = 0, REGISTER = 0, SDP = 0) (
  input read_clk, read_en, register_en, write_clk, write_en,
  input [13:0] read_addr, write_addr,
  input [3:0] write_bytes,
  input [35:0] from_a, from_b,      // {parity, data} of the two bytes of a port
  output [17:0] to_a, to_b
);
  localparam PAIRS = WRITE == 36 & READ == 18;
  localparam BELOW = WRITE == 36 ? 5 : WRITE == 18 ? 4 : WRITE == 9 ? 3 : WRITE / 2;
  localparam GOOD  = (READ == WRITE | PAIRS) & SDP == (WRITE == 36) & REGISTER == 1;

  reg [35:0] rows [0:63];
  reg [35:0] latch = 0, out = 0;
  integer i;
  initial for (i = 0; i < 64; i = i + 1) rows[i] = 0;

  wire [35:0] data = WRITE == 36 ? {from_b[17:0], from_a[17:0]} : from_b & ((36'd1 << WRITE) - 1);
  wire [13:0] row = write_addr >> BELOW, from = read_addr >> BELOW;
  always @(posedge write_clk)
    if (write_en) begin
      if (write_bytes[0]) rows[row[5:0]][8:0]   <= data[8:0];
      if (write_bytes[1]) rows[row[5:0]][17:9]  <= data[17:9];
      if (write_bytes[2]) rows[row[5:0]][26:18] <= data[26:18];
      if (write_bytes[3]) rows[row[5:0]][35:27] <= data[35:27];
    end
  always @(posedge read_clk) begin
    if (read_en) latch <= !PAIRS ? rows[from[5:0]]
                        : rows[from[5:0]] >> (read_addr[4] ? 18 : 0);
    if (register_en) out <= latch;
  end
  assign to_a = GOOD ? out[17:0] : 18'bx;
  assign to_b = GOOD & READ == 36 ? out[35:18] : 18'bx;
endmodule

module RAMB18E1 (
  input CLKARDCLK, ENARDEN, REGCEAREGCE, RSTRAMARSTRAM, RSTREGARSTREG,
  input CLKBWRCLK, ENBWREN, REGCEB, RSTRAMB, RSTREGB,
  input [13:0] ADDRARDADDR, ADDRBWRADDR,
  input [15:0] DIADI, DIBDI, input [1:0] DIPADIP, DIPBDIP, WEA, input [3:0] WEBWE,
  output [15:0] DOADO, DOBDO, output [1:0] DOPADOP, DOPBDOP
);
  parameter RAM_MODE = "TDP", WRITE_MODE_A = "WRITE_FIRST", WRITE_MODE_B = "WRITE_FIRST";
  parameter READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0;
  parameter DOA_REG = 0, DOB_REG = 0;

  wire [17:0] to_a, to_b;
  ramb18_model #(READ_WIDTH_A, WRITE_WIDTH_B, DOA_REG, RAM_MODE == "SDP") model (
    CLKARDCLK, ENARDEN, REGCEAREGCE, CLKBWRCLK, ENBWREN, ADDRARDADDR, ADDRBWRADDR, WEBWE,
    {18'b0, DIPADIP[1], DIADI[15:8], DIPADIP[0], DIADI[7:0]},
    {18'b0, DIPBDIP[1], DIBDI[15:8], DIPBDIP[0], DIBDI[7:0]}, to_a, to_b);
  assign {DOPADOP[1], DOADO[15:8], DOPADOP[0], DOADO[7:0]} = to_a;
  assign {DOPBDOP[1], DOBDO[15:8], DOPBDOP[0], DOBDO[7:0]} = to_b;
endmodule

module RAMB18E2 (
  input CLKARDCLK, ENARDEN, REGCEAREGCE, RSTRAMARSTRAM, RSTREGARSTREG,
  input CLKBWRCLK, ENBWREN, REGCEB, RSTRAMB, RSTREGB,
  input [13:0] ADDRARDADDR, ADDRBWRADDR,
  input [15:0] DINADIN, DINBDIN, input [1:0] DINPADINP, DINPBDINP, WEA, input [3:0] WEBWE,
  output [15:0] DOUTADOUT, DOUTBDOUT, output [1:0] DOUTPADOUTP, DOUTPBDOUTP
);
  parameter WRITE_MODE_A = "NO_CHANGE", WRITE_MODE_B = "NO_CHANGE";
  parameter READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0;
  parameter DOA_REG = 1, DOB_REG = 1;

  wire [17:0] to_a, to_b;
  ramb18_model #(READ_WIDTH_A, WRITE_WIDTH_B, DOA_REG, WRITE_WIDTH_B == 36) model (
    CLKARDCLK, ENARDEN, REGCEAREGCE, CLKBWRCLK, ENBWREN, ADDRARDADDR, ADDRBWRADDR, WEBWE,
    {18'b0, DINPADINP[1], DINADIN[15:8], DINPADINP[0], DINADIN[7:0]},
    {18'b0, DINPBDINP[1], DINBDIN[15:8], DINPBDINP[0], DINBDIN[7:0]}, to_a, to_b);
  assign {DOUTPADOUTP[1], DOUTADOUT[15:8], DOUTPADOUTP[0], DOUTADOUT[7:0]} = to_a;
  assign {DOUTPBDOUTP[1], DOUTBDOUT[15:8], DOUTPBDOUTP[0], DOUTBDOUT[7:0]} = to_b;
endmodule

// Registers in use have a clock enable of their own, which is ignored here, as all are constant.
// P = M, P = M + C, P = P + M or P = C. Other modes give an unknown sum, which no proof accepts.
module DSP48E2 (
  input CLK, CARRYIN,
  input CEA1, CEA2, CEB1, CEB2, CEC, CED, CEAD, CEM, CEP, CEALUMODE, CECARRYIN, CECTRL, CEINMODE,
  input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP,
  input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D,
  input [8:0] OPMODE, input [3:0] ALUMODE, input [4:0] INMODE, input [2:0] CARRYINSEL,
  output [47:0] P
);
  parameter AREG = 1, BREG = 1, CREG = 1, DREG = 1, ADREG = 1, MREG = 1, PREG = 1;
  parameter ACASCREG = 1, BCASCREG = 1, ALUMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1;
  parameter INMODEREG = 1, OPMODEREG = 1, AMULTSEL = "A";

  reg signed [26:0] a1 = 0, a2 = 0, ad = 0;
  reg signed [17:0] b1 = 0, b2 = 0;
  reg signed [44:0] product = 0;
  reg [47:0] c = 0, sum = 0;
  reg [8:0] mode = 0;

  wire enabled = CEA1 & CEA2 & CEB1 & CEB2 & CEC & CEAD & CEM & CEP & CECTRL
               & ~(RSTA | RSTB | RSTCTRL | RSTD | RSTM | RSTP);
  wire plain = AMULTSEL == "A" & INMODE == 5'b00000 & AREG == BREG & AREG != 0;
  wire added = AMULTSEL == "AD" & INMODE == 5'b00100 & AREG == 0 & DREG == 0 & ADREG == 1
             & BREG == 1;
  wire good  = enabled & (plain | added) & MREG == 1 & PREG == 1 & ALUMODEREG == 0
             & INMODEREG == 0 & CARRYINREG == 0 & CARRYINSELREG == 0
             & ALUMODE == 0 & CARRYIN == 0 & CARRYINSEL == 0;

  wire signed [26:0] a = AMULTSEL == "AD" ? ad : a2;
  wire [8:0] now = OPMODEREG ? mode : OPMODE;
  wire [47:0] m = {{3{product[44]}}, product};
  wire [47:0] next = now == 9'b000000101 ? m
                   : now == 9'b000110101 & CREG == 1 ? m + c
                   : now == 9'b000100101 ? m + sum
                   : now == 9'b000110000 & CREG == 1 ? c : 48'bx;
  always @(posedge CLK) begin
    a1 <= A[26:0];
    a2 <= AREG == 2 ? a1 : A[26:0];
    ad <= A[26:0] + D;
    b1 <= B;
    b2 <= BREG == 2 ? b1 : B;
    c  <= RSTC ? 48'd0 : C;
    mode <= OPMODE;
    product <= a * b2;
    sum <= next;
  end
  assign P = good ? sum : 48'bx;
endmodule

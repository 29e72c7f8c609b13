// What the ECP5 cells that we instantiate do in the modes we use; written from Lattice's memory
// and sysDSP usage guides, for proofs only. Yosys itself has a model of CCU2C.

module LUT4 (input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule

module LUT2 (input A, B, output Z);
  parameter [3:0] INIT = 0;
  assign Z = INIT[{B, A}];
endmodule

// Port A writes, port B reads through its output register. Narrow memories have more rows than the
// 1024 of this model. A row of 36 bits is two of 18 bits, and its high half enters at port B.
module DP16KD (
  input CLKA, CLKB, CEA, CEB, WEA, WEB, OCEA, OCEB, RSTA, RSTB,
  input CSA0, CSA1, CSA2, CSB0, CSB1, CSB2,
  input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
  input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13,
  input DIA14, DIA15, DIA16, DIA17,
  input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13,
  input DIB14, DIB15, DIB16, DIB17,
  output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13,
  output DOB14, DOB15, DOB16, DOB17
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", GSR = "ENABLED";

  localparam BELOW = DATA_WIDTH_B == 18 ? 4 : DATA_WIDTH_B == 9 ? 3 : DATA_WIDTH_B / 2;

  reg [8:0] low [0:1023], high [0:1023];
  reg [17:0] latch = 0, out = 0;
  integer i;
  initial for (i = 0; i < 1024; i = i + 1) begin low[i] = 0; high[i] = 0; end

  wire [9:0] write = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2,
                      ADA1, ADA0} >> BELOW;
  wire [9:0] read  = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2,
                      ADB1, ADB0} >> BELOW;
  wire [17:0] data = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
                      DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire [17:0] more = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
                      DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
  wire selected_a = ~CSA0 & ~CSA1 & ~CSA2, selected_b = ~CSB0 & ~CSB1 & ~CSB2;
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
          DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} =
    REGMODE_B == "OUTREG" ? out : latch;

  always @(posedge CLKA)
    if (CEA & WEA & selected_a) begin       // of 18 bits, address bits 0 and 1 enable the bytes
      if (DATA_WIDTH_A == 36) begin         // of 36 bits, address bits 0 to 3
        if (ADA0) low[write & ~1] <= data[8:0];
        if (ADA1) high[write & ~1] <= data[17:9];
        if (ADA2) low[write | 1] <= more[8:0];
        if (ADA3) high[write | 1] <= more[17:9];
      end else if (DATA_WIDTH_A != 18) low[write] <= data[8:0] & ((1 << DATA_WIDTH_A) - 1);
      else begin
        if (ADA0) low[write] <= data[8:0];
        if (ADA1) high[write] <= data[17:9];
      end
    end
  always @(posedge CLKB) begin
    if (CEB & ~WEB & selected_b) latch <= {high[read], low[read]};
    if (RSTB) out <= 0;
    else if (OCEB) out <= latch;
  end
endmodule

// Every register in use, on clock 0.
module MULT18X18D (
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
  input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
  input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17,
  output P18, P19, P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0";
  parameter GSR = "ENABLED", RESETMODE = "SYNC";

  wire [17:0] a_in = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] b_in = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  reg [17:0] a_held = 0, b_held = 0;
  reg [35:0] middle_held = 0, out_held = 0;
  wire [17:0] a = REG_INPUTA_CLK == "CLK0" ? a_held : a_in;
  wire [17:0] b = REG_INPUTB_CLK == "CLK0" ? b_held : b_in;
  wire signed [18:0] a_wide = {SIGNEDA & a[17], a}, b_wide = {SIGNEDB & b[17], b};
  wire [35:0] product = a_wide * b_wide;
  wire [35:0] middle = REG_PIPELINE_CLK == "CLK0" ? middle_held : product;
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
          P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} =
    REG_OUTPUT_CLK == "CLK0" ? out_held : middle;

  always @(posedge CLK0)
    if (RST0) begin a_held <= 0; b_held <= 0; middle_held <= 0; out_held <= 0; end
    else if (CE0) begin a_held <= a_in; b_held <= b_in; middle_held <= product; out_held <= middle; end
endmodule

"""Example of a system with the core: block design of a Kria KV260 as a script for Vivado.

Sources: AMD UG1085, Zynq UltraScale+ Device Technical Reference Manual (ports between processing
system and logic, address map); PG201, its block in the IP integrator; UG835, commands of Vivado.
"""

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.ip_xact import LIBRARY, VENDOR, VERSION
from tritstream.hw.axi.names import CORE, UNTRIED

__all__ = ["KV260_PART", "REGISTERS", "kv260_tcl"]

#: FPGA of the Kria K26 module, for Vivado.
KV260_PART = "xck26-sfvc784-2LV-c"
#: Address of the registers for the processor: the window of the port M_AXI_HPM0_FPD.
REGISTERS = 0xA000_0000
#: Clock in MHz unless the core was exported with one.
_CLOCK = 250
#: Ports of the processing system to memory, and bits of the widest.
_PORTS, _BITS = 4, 128

_TCL = """\
# {untried}
# Block design for a Kria KV260: processing system, {channels} channels of {lanes} lanes, DDR4
# through the ports HP0 to HP3, registers at {registers:#x}, interrupt pl_ps_irq0[0].
#     vivado -mode batch -source kv260.tcl
# makes the project kv260/, its bitstream, and kv260.xsa for device tree or PYNQ.
set here      [file dirname [file normalize [info script]]]
set channels  {channels}
set clock_mhz {clock}
set ports     [expr {{min($channels, {ports})}}]

create_project kv260 $here/kv260 -part {part} -force
set_property board_part [lindex [lsort [get_board_parts *:kv260_som:part0:*]] end] [current_project]
set_property ip_repo_paths $here [current_project]
update_ip_catalog
create_bd_design system

# Cells.
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps]
apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e \\
    -config {{apply_board_preset "1"}} $ps
set options [list CONFIG.PSU__FPGA_PL0_ENABLE 1 \\
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz CONFIG.PSU__USE__IRQ0 1 \\
    CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0]
for {{set port 0}} {{$port < $ports}} {{incr port}} {{
    set gp [expr {{$port + 2}}]
    lappend options CONFIG.PSU__USE__S_AXI_GP$gp 1 CONFIG.PSU__SAXIGP${{gp}}__DATA_WIDTH {bits}
}}
set_property -dict $options $ps
create_bd_cell -type ip -vlnv {vlnv} core
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset
set control [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect control]
set_property -dict {{CONFIG.NUM_SI 1 CONFIG.NUM_MI 1}} $control

# Registers and interrupt.
connect_bd_intf_net [get_bd_intf_pins ps/M_AXI_HPM0_FPD] [get_bd_intf_pins control/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins control/M00_AXI] [get_bd_intf_pins core/s_axi]
connect_bd_net [get_bd_pins core/irq] [get_bd_pins ps/pl_ps_irq0]
set clocks {{core/aclk reset/slowest_sync_clk control/aclk ps/maxihpm0_fpd_aclk}}
set resets {{core/aresetn control/aresetn}}

# Memory: the channels take turns among the ports.
for {{set port 0}} {{$port < $ports}} {{incr port}} {{
    set masters {{}}
    for {{set channel $port}} {{$channel < $channels}} {{incr channel $ports}} {{
        lappend masters [format m%02d_axi $channel]
    }}
    set memory [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect memory$port]
    set_property -dict [list CONFIG.NUM_SI [llength $masters] CONFIG.NUM_MI 1] $memory
    foreach master $masters {{
        set input [format S%02d_AXI [lsearch $masters $master]]
        connect_bd_intf_net [get_bd_intf_pins core/$master] [get_bd_intf_pins memory$port/$input]
    }}
    connect_bd_intf_net [get_bd_intf_pins memory$port/M00_AXI] \\
        [get_bd_intf_pins ps/S_AXI_HP${{port}}_FPD]
    lappend clocks memory$port/aclk ps/saxihp${{port}}_fpd_aclk
    lappend resets memory$port/aresetn
}}

# Clock and reset. Core and interconnect are reset together.
foreach pin $clocks {{
    connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins $pin]
}}
connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]
foreach pin $resets {{
    connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}}

# Addresses: registers for the processor, DDR4 for the channels.
assign_bd_address -offset {registers:#x} -range 64K -target_address_space \\
    [get_bd_addr_spaces ps/Data] [get_bd_addr_segs core/s_axi/registers]
for {{set channel 0}} {{$channel < $channels}} {{incr channel}} {{
    set port  [expr {{$channel % $ports}}]
    set space [get_bd_addr_spaces [format core/m%02d_axi $channel]]
    foreach segment {{DDR_LOW DDR_HIGH}} {{
        assign_bd_address -target_address_space $space \\
            [get_bd_addr_segs ps/SAXIGP[expr {{$port + 2}}]/HP${{port}}_$segment]
    }}
    foreach segment {{QSPI LPS_OCM}} {{
        exclude_bd_addr_seg -target_address_space $space \\
            [get_bd_addr_segs ps/SAXIGP[expr {{$port + 2}}]/HP${{port}}_$segment]
    }}
}}
validate_bd_design
save_bd_design

# Bitstream.
make_wrapper -files [get_files system.bd] -top -import
set_property top system_wrapper [current_fileset]
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
write_hw_platform -fixed -include_bit -force $here/kv260.xsa
"""


def kv260_tcl(config: AxiConfig) -> str:
    """Return a script that makes a project for the KV260 around the package in its folder.

    The ports of the processing system have at most 128 bits. A wider channel is narrowed by the
    interconnect, and gets half or a quarter of a word per cycle.
    """
    return _TCL.format(
        untried=UNTRIED, channels=config.channels, lanes=config.lanes, ports=_PORTS,
        part=KV260_PART, registers=REGISTERS, bits=min(8 * config.lanes, _BITS),
        clock=f"{config.device.clock_hz / 1e6 or _CLOCK:g}",
        vlnv=f"{VENDOR}:{LIBRARY}:{CORE.top}:{VERSION}")

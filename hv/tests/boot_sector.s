# The guest of the tests: a boot sector that greets on the serial port, echoes what is typed, and on p powers
# off, on r resets, on c reports a panic (pvpanic); the ACPI power button powers it off. It has a letter in memory,
# at first a, and one in the second sector of its disk: on 1 memory's becomes the next, on 2 it is told, on 3 written to
# the disk, on 4 the disk's is told, each as "=" and the letter. boot_sector.h holds its
# bytes: as --32 boot_sector.s -o b.o && objcopy -O binary -j .text b.o b.bin && xxd -i b.bin
.code16
.org 0
letter=0x7e00
buffer=0x8000
start:
 cli
 xorw %ax,%ax
 movw %ax,%ds
 movw %ax,%es
 movw %ax,%ss
 movw $0x7000,%sp
 movb $'a',letter
 movw $0x602,%dx
 movw $0x100,%ax
 outw %ax,%dx
 movw $0x7c00+msg-start,%si
next: lodsb
 testb %al,%al
 jz read
 call putc
 jmp next
read:
 movw $0x600,%dx
 inw %dx,%ax
 testb $1,%ah
 jnz off
 movw $0x3fd,%dx
 inb %dx,%al
 testb $1,%al
 jz read
 movw $0x3f8,%dx
 inb %dx,%al
 cmpb $'p',%al
 je off
 cmpb $'r',%al
 je reset
 cmpb $'c',%al
 je panic
 cmpb $'1',%al
 je count
 cmpb $'2',%al
 je tell
 cmpb $'3',%al
 je store
 cmpb $'4',%al
 je load
 call putc
 jmp read
count: incb letter
tell: movb letter,%al
say: pushw %ax
 movb $'=',%al
 call putc
 popw %ax
 call putc
 jmp read
store: movb letter,%al
 movb %al,buffer
 movw $0x0301,%ax
 call sector
 jmp tell
load: movw $0x0201,%ax
 call sector
 movb buffer,%al
 jmp say
sector: movw $buffer,%bx
 movw $0x0002,%cx
 movw $0x0080,%dx
 int $0x13
 jnc done
 movb $'!',%al
 call putc
done: ret
off: movw $0x604,%dx
 movw $0x2000,%ax
 outw %ax,%dx
 jmp read
reset: movb $0xfe,%al
 outb %al,$0x64
 jmp read
panic: movw $0x505,%dx
 movb $1,%al
 outb %al,%dx
 jmp read
putc: pushw %ax
 movw $0x3fd,%dx
w: inb %dx,%al
 testb $0x20,%al
 jz w
 popw %ax
 movw $0x3f8,%dx
 outb %al,%dx
 ret
msg: .asciz "guest is up\r\n"
.org 510
.byte 0x55,0xaa

# <setjmp.h>: the exception tag that longjmp throws and setjmp catches. wasi-libc refers to it and defines none.
	.tagtype	__c_longjmp i32
	.globl	__c_longjmp
__c_longjmp:

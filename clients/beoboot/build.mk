bins += $(BIN)/beoboot
$(BIN)/beoboot: LIBS = $(MP_LIBS) $(JSON_LIBS) -lkmod -lzstd -lcrypto
$(BIN)/beoboot: $(call objs,$(addprefix clients/beoboot/,main.c plan.c bootconf.c drivers.c cpio.c \
    initrd.c output.c media.c firmware.c list.c tool.c) bus/image.c bus/elf.c) $(B)/libclients.a $(LIBCM)
	$(LINK)

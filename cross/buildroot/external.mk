include $(sort $(wildcard $(BR2_EXTERNAL_MAINSTAY_PATH)/package/*/*.mk))
